package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// office is a DNS server for the zone of an imaginary office. It counts what
// it is asked, so that tests can tell which names a laptop sends there.
type office struct {
	zone    string
	records map[string][]dns.RR

	mu     sync.Mutex
	counts map[string]int // by name, lower case, no final dot; guarded by mu
}

// newOffice reads records in zone file syntax, relative to zone.
func newOffice(zone string, records []string) (*office, error) {
	o := &office{zone: dns.CanonicalName(zone), records: map[string][]dns.RR{}, counts: map[string]int{}}
	for _, line := range records {
		rr, err := dns.NewRR(line)
		if err != nil {
			return nil, fmt.Errorf("record %q: %w", line, err)
		}
		name := dns.CanonicalName(rr.Header().Name)
		o.records[name] = append(o.records[name], rr)
	}
	return o, nil
}

// ServeDNS answers from the records: NODATA where a name has none of the
// asked type, NXDOMAIN for every other name.
func (o *office) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	if len(query.Question) != 1 {
		reply.Rcode = dns.RcodeFormatError
		_ = w.WriteMsg(reply)
		return
	}
	q := query.Question[0]
	name := dns.CanonicalName(q.Name)
	o.mu.Lock()
	o.counts[strings.TrimSuffix(name, ".")]++
	o.mu.Unlock()

	known, ok := o.records[name]
	if !ok {
		reply.Rcode = dns.RcodeNameError
	}
	for _, rr := range known {
		if rr.Header().Rrtype == q.Qtype || q.Qtype == dns.TypeANY {
			rr = dns.Copy(rr)
			rr.Header().Name = q.Name
			reply.Answer = append(reply.Answer, rr)
		}
	}
	if len(reply.Answer) == 0 {
		reply.Ns = append(reply.Ns, &dns.SOA{
			Hdr: dns.RR_Header{Name: o.zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 5},
			Ns:  "ns." + o.zone, Mbox: "admin." + o.zone, Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: 5,
		})
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil && int(opt.UDPSize()) > size {
			size = int(opt.UDPSize())
		}
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply)
}

// ServeHTTP gives the counts as a JSON object of name to number; DELETE forgets them.
func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(o.counts)
	case http.MethodDelete:
		o.counts = map[string]int{}
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "GET or DELETE", http.StatusMethodNotAllowed)
	}
}

func resolve(args []string) error {
	flags := flag.NewFlagSet("resolver", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:53", "`address` for DNS, UDP and TCP")
	admin := flags.String("counts", "127.0.0.1:8053", "`address` of the HTTP endpoint that tells what was asked")
	zone := flags.String("zone", "office.example", "zone this server has authority over")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o, err := newOffice(*zone, flags.Args())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	udp := &dns.Server{Addr: *listen, Net: "udp", Handler: o}
	tcp := &dns.Server{Addr: *listen, Net: "tcp", Handler: o}
	web := &http.Server{Addr: *admin, Handler: o, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 3)
	go func() { failed <- udp.ListenAndServe() }()
	go func() { failed <- tcp.ListenAndServe() }()
	go func() { failed <- web.ListenAndServe() }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(err, udp.ShutdownContext(shutdown), tcp.ShutdownContext(shutdown), web.Shutdown(shutdown))
}

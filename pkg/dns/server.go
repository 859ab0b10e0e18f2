package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/singleflight"
)

const (
	// answerLimit is shorter than the 5 s after which resolvers ask again.
	answerLimit = 4 * time.Second
	// tcpIdle is how long a TCP client may keep a silent connection.
	tcpIdle = 8 * time.Second
	// maxPending bounds the questions that wait at once; a resolver library
	// asks a handful.
	maxPending = 4096
	maxTCP     = 256
	// maxQuestion is the longest question read from a datagram.
	maxQuestion = 4096
)

// Exchange asks one question and returns the answer to it. It must return
// once ctx has ended, must not keep or change q, and the caller owns the
// answer. Its id may differ from the question's.
type Exchange func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error)

// Config says who answers what. All but Reverse and Log are required.
type Config struct {
	Domain   string                // the cluster's domain, such as cluster.local
	Reverse  func(netip.Addr) bool // whether the cluster answers PTR questions for an address; nil: none
	Cluster  Exchange              // answers names in Domain and reverse names that Reverse claims
	Upstream Exchange              // answers everything else
	// Search are domains by which this machine completes names. The cluster's
	// names completed so are nobody's, and nobody is told of them.
	Search []string
	Log    *slog.Logger
}

// Stats counts questions since NewServer.
type Stats struct {
	Queries  uint64 `json:"queries"`  // all
	Cluster  uint64 `json:"cluster"`  // asked of the cluster, or sharing such an answer
	Upstream uint64 `json:"upstream"` // asked of the resolvers before ours, likewise
	Shared   uint64 `json:"shared"`   // answered with another's answer to the same question
	Failed   uint64 `json:"failed"`   // answered with SERVFAIL for want of an answer
	Refused  uint64 `json:"refused"`  // zone transfers and questions beyond the limit
}

// Server answers questions by one of two Exchanges.
type Server struct {
	cfg     Config
	domain  string // canonical: lower case with a dot at the end
	flight  singleflight.Group
	pending chan struct{}

	queries, cluster, upstream, shared, failed, refused atomic.Uint64
}

// NewServer checks cfg; it starts nothing.
func NewServer(cfg Config) (*Server, error) {
	domain := mdns.CanonicalName(cfg.Domain)
	_, ok := mdns.IsDomainName(domain)
	switch {
	case !ok || domain == ".":
		return nil, fmt.Errorf("DNS server: %q is not a domain", cfg.Domain)
	case cfg.Cluster == nil || cfg.Upstream == nil:
		return nil, errors.New("DNS server: needs a way to ask the cluster and one to ask the others")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, domain: domain, pending: make(chan struct{}, maxPending)}, nil
}

// Stats is a snapshot; its fields may be of slightly different moments.
func (s *Server) Stats() Stats {
	return Stats{
		Queries: s.queries.Load(), Cluster: s.cluster.Load(), Upstream: s.upstream.Load(),
		Shared: s.shared.Load(), Failed: s.failed.Load(), Refused: s.refused.Load(),
	}
}

// Serve answers on both until ctx ends, which is no error, or one of them
// fails. It closes both and returns after the last answer in progress.
func (s *Server) Serve(ctx context.Context, pc net.PacketConn, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	udp := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) { s.handle(ctx, w, q, true) })
	tcp := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) { s.handle(ctx, w, q, false) })
	idle := func() time.Duration { return tcpIdle }
	servers := []*mdns.Server{
		{PacketConn: pc, Handler: udp, UDPSize: maxQuestion},
		{Listener: netutil.LimitListener(l, maxTCP), Handler: tcp, IdleTimeout: idle, ReadTimeout: tcpIdle, MaxTCPQueries: -1},
	}
	var wg sync.WaitGroup
	errs := make([]error, len(servers))
	for i, server := range servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil {
				errs[i] = fmt.Errorf("DNS server: %w", err)
			}
			cancel()
		})
		wg.Go(func() {
			select {
			case <-started: // before that there is nothing to shut down
			case <-done:
				return
			}
			<-ctx.Done()
			_ = server.Shutdown() // also waits for answers in progress, which ctx cuts short
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Server) handle(ctx context.Context, w mdns.ResponseWriter, q *mdns.Msg, udp bool) {
	s.queries.Add(1)
	answer := s.answer(ctx, q)
	answer.Id = q.Id
	answer.Compress = true
	if udp {
		size := mdns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		answer.Truncate(size)
	}
	if err := w.WriteMsg(answer); err != nil {
		s.cfg.Log.Debug("answer not sent", "to", w.RemoteAddr().String(), "err", err)
	}
}

// answer returns a message that the caller may change.
func (s *Server) answer(ctx context.Context, q *mdns.Msg) *mdns.Msg {
	if len(q.Question) != 1 || q.Opcode != mdns.OpcodeQuery {
		s.refused.Add(1)
		return failure(q, mdns.RcodeNotImplemented)
	}
	question := q.Question[0]
	if question.Qtype == mdns.TypeAXFR || question.Qtype == mdns.TypeIXFR {
		s.refused.Add(1)
		return failure(q, mdns.RcodeRefused)
	}
	select {
	case s.pending <- struct{}{}:
		defer func() { <-s.pending }()
	default:
		s.refused.Add(1)
		return failure(q, mdns.RcodeServerFailure)
	}
	if s.completed(question.Name) {
		return failure(q, mdns.RcodeNameError)
	}
	ask, counter := s.cfg.Upstream, &s.upstream
	if s.ofCluster(question.Name) {
		ask, counter = s.cfg.Cluster, &s.cluster
	}
	counter.Add(1)
	answer, err := s.askOnce(ctx, ask, q)
	if err != nil {
		s.failed.Add(1)
		s.cfg.Log.Debug("no answer", "name", question.Name, "type", mdns.Type(question.Qtype).String(), "err", err)
		return failure(q, mdns.RcodeServerFailure)
	}
	return answer
}

// failure is an answer that says nothing but why there is none.
func failure(q *mdns.Msg, rcode int) *mdns.Msg {
	m := new(mdns.Msg).SetRcode(q, rcode)
	m.RecursionAvailable = true
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(maxQuestion, opt.Do())
	}
	return m
}

// askOnce lets identical questions that come while one of them is being asked
// wait for its answer. Identical is every bit but the id: flags and options
// shape the answer.
func (s *Server) askOnce(ctx context.Context, ask Exchange, q *mdns.Msg) (*mdns.Msg, error) {
	same := *q
	same.Id = 0
	key, err := same.Pack()
	if err != nil {
		return nil, err
	}
	first := false
	v, err, _ := s.flight.Do(string(key), func() (any, error) {
		first = true
		ctx, cancel := context.WithTimeout(ctx, answerLimit)
		defer cancel()
		return ask(ctx, q.Copy())
	})
	if !first {
		s.shared.Add(1)
	}
	if err != nil {
		return nil, err
	}
	answer, ok := v.(*mdns.Msg)
	if !ok || answer == nil {
		return nil, errors.New("no answer")
	}
	return answer.Copy(), nil
}

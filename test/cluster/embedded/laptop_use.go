package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Where a laptop's DNS server is. It stands for the office's, and is at the
// laptop itself, so that it answers when the cable is pulled.
const (
	resolverAddress = "198.18.0.53"
	resolverCounts  = resolverAddress + ":8053"
	officeZone      = "office.example"
)

// officeRecords are all names the office has. The TXT record needs TCP.
func officeRecords() []string {
	return []string{
		"intranet.office.example. 5 IN A 203.0.113.250",
		"printer.office.example. 5 IN AAAA 2001:db8::250",
		"wiki.office.example. 5 IN CNAME intranet.office.example.",
		"250.113.0.203.in-addr.arpa. 5 IN PTR intranet.office.example.",
		"long.office.example. 5 IN TXT" + strings.Repeat(fmt.Sprintf(" %q", strings.Repeat("x", 200)), 10),
	}
}

func (l *Laptop) resolver() program {
	l.c.mu.Lock()
	warden := l.c.state.Components.warden()
	l.c.mu.Unlock()
	argv := []string{warden, "resolver", "-listen=" + resolverAddress + ":53", "-counts=" + resolverCounts, "-zone=" + officeZone, "--"}
	return program{"resolver-" + l.name, component{NetNS: l.NetNS(), Cgroup: l.c.opt.controlCgroup(), Argv: append(argv, officeRecords()...)}}
}

// ResolvConf is the content of the laptop's /etc/resolv.conf as it was made.
func (l *Laptop) ResolvConf() string {
	return "nameserver " + resolverAddress + "\nsearch " + officeZone + "\n"
}

// ResolvFile is the file that is the laptop's /etc/resolv.conf, seen from here.
func (l *Laptop) ResolvFile() string { return l.resolvFile() }

// Command is a command at the laptop, with the kubeconfig of user ("" for
// none), in this process's working directory and with its environment. A
// program named without a slash is looked for in $PATH, after the cluster's kubectl.
func (l *Laptop) Command(ctx context.Context, user string, argv ...string) *exec.Cmd {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + l.NetNS(), "--mount=" + l.MountNS(), "--", "env", "-C", dir}, argv...)...)
	cmd.Env = append(os.Environ(), l.Env(user)...)
	return cmd
}

// Env is what Command adds to the environment.
func (l *Laptop) Env(user string) []string {
	env := []string{
		"PATH=" + l.c.opt.path("bin") + ":" + os.Getenv("PATH"),
		"XDG_RUNTIME_DIR=" + l.path("run"),
		"XDG_CACHE_HOME=" + l.path("cache"),
		"XDG_STATE_HOME=" + l.path("state"),
		"KUBECACHEDIR=" + l.path("cache", "kube"),
		"TELE_CLUSTER_DIR=" + l.c.opt.Dir,
		"TELE_CLUSTER_NAME=" + l.c.opt.Name,
		"KUBECONFIG=" + os.DevNull,
	}
	if user != "" {
		env[len(env)-1] = "KUBECONFIG=" + l.c.Kubeconfig(user)
	}
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("GOCACHE") == "" {
		env = append(env, "GOCACHE="+filepath.Join(cache, "go-build"))
	}
	return env
}

// Dial dials from the laptop: a literal address, or a name that is resolved as
// the laptop's /etc/resolv.conf says at the moment.
func (l *Laptop) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil {
		found, err := l.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		address = net.JoinHostPort(found[0], port)
	}
	return dialIn(ctx, l.NetNS(), network, address)
}

// Listen listens at the laptop, on a literal address.
func (l *Laptop) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return listenIn(ctx, l.NetNS(), network, address)
}

// ListenPacket listens for datagrams at the laptop, on a literal address.
func (l *Laptop) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return listenPacketIn(ctx, l.NetNS(), network, address)
}

// LookupHost asks the servers in the laptop's /etc/resolv.conf for a name's
// IPv4 addresses, trying its search domains. It keeps no cache.
func (l *Laptop) LookupHost(ctx context.Context, name string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(l.resolvFile())
	if err != nil {
		return nil, err
	}
	last := &net.DNSError{Err: "no server answers", Name: name}
	for _, candidate := range config.NameList(name) {
		for _, server := range config.Servers {
			reply, err := l.ask(ctx, net.JoinHostPort(server, config.Port), candidate)
			if err != nil {
				last = &net.DNSError{Err: err.Error(), Name: name, Server: server}
				continue
			}
			var found []string
			for _, rr := range reply.Answer {
				if a, ok := rr.(*dns.A); ok {
					found = append(found, a.A.String())
				}
			}
			if len(found) > 0 {
				return found, nil
			}
			last = &net.DNSError{Err: "no such host", Name: name, Server: server, IsNotFound: true}
			break
		}
	}
	return nil, last
}

func (l *Laptop) ask(ctx context.Context, server, name string) (*dns.Msg, error) {
	conn, err := dialIn(ctx, l.NetNS(), "udp", server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	client := &dns.Client{Timeout: 5 * time.Second}
	reply, _, err := client.ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), &dns.Conn{Conn: conn})
	return reply, err
}

// Transport is an HTTP transport that dials from the laptop, a new connection
// for each request.
func (l *Laptop) Transport() *http.Transport {
	return &http.Transport{DialContext: l.Dial, DisableKeepAlives: true}
}

// ResolverCounts is how often the laptop's DNS server was asked for each name
// (lower case, without the final dot).
func (l *Laptop) ResolverCounts(ctx context.Context) (map[string]int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+resolverCounts, nil)
	if err != nil {
		return nil, err
	}
	reply, err := l.Transport().RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = reply.Body.Close() }()
	counts := map[string]int{}
	return counts, json.NewDecoder(reply.Body).Decode(&counts)
}

// Routes is the laptop's routing table, "ip route" of both families, one route
// a line without trailing spaces.
func (l *Laptop) Routes(ctx context.Context) ([]string, error) {
	var routes []string
	for _, family := range []string{"-4", "-6"} {
		out, err := l.c.run(ctx, "", "ip", "-n", l.netns(), family, "route", "show")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			routes = append(routes, strings.TrimSpace(line))
		}
	}
	return routes, nil
}

// LinkDown pulls the laptop's cable: connections stay and go silent.
func (l *Laptop) LinkDown(ctx context.Context) error { return l.setLink(ctx, "down") }

// LinkUp plugs it in again.
func (l *Laptop) LinkUp(ctx context.Context) error { return l.setLink(ctx, "up") }

func (l *Laptop) setLink(ctx context.Context, to string) error {
	record, err := l.load()
	if err != nil {
		return err
	}
	_, err = l.c.run(ctx, "", "ip", "-n", l.c.opt.netns(), "link", "set", l.link(record), to)
	return err
}

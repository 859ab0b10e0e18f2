//go:build linux

package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// mostMemory bounds the resident memory of an agent, in KiB: its container has
	// 128 MiB, of which sockets, pipes and page tables in the kernel, which count
	// too, are left 18.
	mostMemory = 110 << 10
	// patience is far longer than anything takes that is not stalled.
	patience = 30 * time.Second

	appVariable = "TELE_TEST_HOSTILE_APP"
)

// TestHostileClients: whatever clients do, an agent of the size that is deployed lives,
// stays within its memory, and answers those beside them. When they have gone, nothing
// of them is left.
func TestHostileClients(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "tele-agent")
	build := exec.Command("go", "build", "-o", binary, "github.com/kubectl-tele/kubectl-tele/cmd/tele-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, attack := range []struct {
		name string
		run  func(p *prey)
	}{
		{"slowloris", slowloris},
		{"incomplete heads", func(p *prey) { p.halfOpen("GET / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nX-A: ") }},
		{"bodies that never come", func(p *prey) {
			p.halfOpen("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
		}},
		{"bodies to an app that does not read", func(p *prey) { p.pour("app") }},
		{"bodies to a handler that does not read", func(p *prey) { p.pour("me") }},
		{"answers of an app without end", func(p *prey) { p.thirst("app") }},
		{"answers of a handler without end", func(p *prey) { p.thirst("me") }},
		{"rapid reset of the app", func(p *prey) { p.rapidReset("app") }},
		{"rapid reset of a handler", func(p *prey) { p.rapidReset("me") }},
		{"CONTINUATION flood", continuations},
		{"HPACK bombs", bombs},
		{"large heads to a handler that does not answer", largeHeads},
		{"PING flood", func(p *prey) {
			p.flood(func(c *h2Client) error { return c.frames.WritePing(false, [8]byte{}) })
		}},
		{"SETTINGS flood", func(p *prey) {
			p.flood(func(c *h2Client) error {
				return c.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
			})
		}},
		{"flood of empty DATA to the app", func(p *prey) { p.emptyData("app") }},
		{"flood of empty DATA to a handler", func(p *prey) { p.emptyData("me") }},
		{"flood of malformed requests", func(p *prey) {
			p.flood(func(c *h2Client) error {
				c.last += 2
				return c.frames.WriteHeaders(http2.HeadersFrameParam{
					StreamID: c.last, EndStream: true, EndHeaders: true, BlockFragment: []byte("\x00\x01A\x01b"),
				})
			})
		}},
		{"credit of 0 and too much", credit},
		{"many streams of many connections", manyStreams},
	} {
		t.Run(attack.name, func(t *testing.T) {
			p := hunt(t, binary)
			stop := p.wellBehaved()
			start := time.Now()
			attack.run(p)
			t.Logf("attacked for %v", time.Since(start).Round(time.Millisecond))
			stop()
			p.check()
		})
	}
}

// prey is an agent that is attacked, as a process of its own with an app that is one
// too, a session that takes the requests of me, and one that watches all of them and
// gets copies.
type prey struct {
	t       *testing.T
	agent   *exec.Cmd
	session *tunnel.Tunnel
	address string // of the captured port
}

func hunt(t *testing.T, binary string) *prey {
	ip := ownAddress(t)
	app, said := start(t, exec.Command(os.Args[0]), regexp.MustCompile(`app listens at \S+:(\d+)`), appVariable+"="+ip.String())
	t.Cleanup(func() { _ = app.Process.Kill() })
	appPort, err := strconv.ParseUint(said, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	agent, control := start(t, exec.Command(binary, "serve", "--control-port=0", "--drain-limit=1ms"), regexp.MustCompile(` control=(\d+)`),
		"GOMEMLIMIT=100MiB", api.EnvKey+"="+hex.EncodeToString(testKey), api.EnvPodIP+"="+ip.String())
	t.Cleanup(func() {
		if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("the agent has ended: %v", err)
		}
	})
	lane := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", "127.0.0.1:"+control)
	}
	dial := func(name string) *tunnel.Tunnel {
		session, err := tunnel.Dial(t.Context(), lane, tunnel.Config{Key: testKey, Session: name})
		if err != nil {
			t.Fatal(err)
		}
		serveFlows(t, session)
		return session
	}
	session, onlooker := dial("me"), dial("onlooker")
	captures := mustListen(t, session, api.Capture{App: uint16(appPort)})
	mustRegister(t, session, requestsOf("i", "me", uint16(appPort)))
	mirror := take("m", uint16(appPort))
	mirror.Rules[0].Action = api.Mirror
	mustRegister(t, onlooker, mirror)
	watching, err := openService(t, onlooker, api.ServiceWatch, api.WatchRequest{Port: uint16(appPort)})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, watching) }() // until the session ends
	return &prey{t: t, agent: agent, session: session, address: fmt.Sprintf("127.0.0.1:%d", captures[0].Listen)}
}

// ownAddress is an address of this machine that an agent takes for a pod's. What is
// sent to it stays on loopback.
func ownAddress(t *testing.T) netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() && p.Addr().Is4() {
			return p.Addr()
		}
	}
	t.Fatal("this machine has no address but loopback's, and an agent takes no other for a pod's")
	return netip.Addr{}
}

// start starts a process and waits until it says something.
func start(t *testing.T, cmd *exec.Cmd, wanted *regexp.Regexp, env ...string) (_ *exec.Cmd, said string) {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer func() { _ = r.Close() }()
		for in := bufio.NewScanner(r); in.Scan(); {
			if m := wanted.FindStringSubmatch(in.Text()); m != nil && len(found) == 0 {
				found <- m[1]
			} else if m == nil {
				t.Log(in.Text())
			}
		}
	}()
	t.Cleanup(func() {
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		<-read
		_ = cmd.Wait()
	})
	select {
	case said = <-found:
	case <-read:
		t.Fatalf("%s has ended", cmd)
	}
	return cmd, said
}

// beApp makes a test binary with this variable the app, in a process of its own.
func beApp() {
	ip := os.Getenv(appVariable)
	if ip == "" {
		return
	}
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err == nil {
		fmt.Println("app listens at", l.Addr())
		err = serverOf(context.Background(), "app").Serve(l)
	}
	fmt.Fprintln(os.Stderr, "app:", err)
	os.Exit(1)
}

// serverOf is a server of HTTP/1 and HTTP/2 that answers with its name, unless it is
// asked for worse.
func serverOf(base context.Context, name string) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name)
	})
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	context.AfterFunc(base, release)
	mux.HandleFunc("/release", func(http.ResponseWriter, *http.Request) { release() })
	mux.HandleFunc("/stands", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-released: // a body that is not read hides the end of the connection
		}
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for buf := make([]byte, 32<<10); ; {
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	})
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Minute, Protocols: new(http.Protocols),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// serveFlows serves what a session is offered, until the test ends.
func serveFlows(t *testing.T, session *tunnel.Tunnel) {
	base, cancel := context.WithCancel(context.Background())
	server := serverOf(base, "me")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(flowListener{session})
	}()
	t.Cleanup(func() {
		cancel()
		_ = session.Close()
		_ = server.Close()
		<-ended
	})
}

// wellBehaved starts clients that ask the app and the handler all the time, on kept
// and on new connections. stop ends them and complains of what was not answered.
func (p *prey) wellBehaved() (stop func()) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var running sync.WaitGroup
	for _, c := range []struct {
		user    string
		kept    bool
		http2   bool
		answers []string
	}{
		{"nobody", true, false, []string{"app"}},
		{"nobody", false, false, []string{"app"}},
		{"me", true, false, []string{"me"}},
		{"me", true, true, []string{"me"}},
		{"nobody", true, true, []string{"app"}},
		// Where too many others are looked into, the app answers.
		{"me", false, false, []string{"me", "app"}},
		{"me", false, true, []string{"me", "app"}},
	} {
		transport := &http.Transport{DisableKeepAlives: !c.kept, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!c.http2)
		transport.Protocols.SetUnencryptedHTTP2(c.http2)
		client := &http.Client{Transport: transport, Timeout: patience}
		what := fmt.Sprintf("client of %s, HTTP/2 %v, kept %v", c.user, c.http2, c.kept)
		first := make(chan struct{})
		running.Go(func() {
			defer transport.CloseIdleConnections()
			asked, slowest := 0, time.Duration(0)
			for ; ctx.Err() == nil; asked++ {
				begin := time.Now()
				by, err := p.askOf(client, c.user, "/")
				if asked == 0 {
					close(first)
				}
				if err != nil || !strings.Contains(strings.Join(c.answers, " "), by) || by == "" {
					p.t.Errorf("%s, request %d: answered %q, %v", what, asked, by, err)
					return
				}
				slowest = max(slowest, time.Since(begin))
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			p.t.Logf("%s: %d requests, slowest %v", what, asked, slowest.Round(time.Millisecond))
		})
		<-first
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// askOf asks as a user and returns who answers.
func (p *prey) askOf(client *http.Client, user, path string) (string, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+p.address+path, strings.NewReader("question"))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-User", user)
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// check is for when all clients have gone.
func (p *prey) check() {
	for _, user := range []string{"app", "me"} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
		if _, err := p.askOf(client, user, "/release"); err != nil {
			p.t.Errorf("release: %v", err)
		}
	}
	for deadline := time.Now().Add(patience); ; {
		info, err := askInfo(p.t.Context(), p.session)
		if err != nil {
			p.t.Fatalf("the agent does not answer: %v", err)
		}
		if info.Captures[0].Active == 0 {
			p.t.Logf("opaque: %v", info.Captures[0].Opaque)
			break
		}
		if time.Now().After(deadline) {
			p.t.Errorf("%d connections have not ended", info.Captures[0].Active)
			_ = p.agent.Process.Signal(syscall.SIGQUIT) // says where it is
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.agent.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		p.t.Fatalf("no VmHWM in %s", status)
	}
	most, _ := strconv.Atoi(string(m[1]))
	p.t.Logf("most memory: %d MiB", most>>10)
	if most > mostMemory {
		p.t.Errorf("the agent has used %d MiB", most>>10)
	}
}

// connections returns how many of those that are wanted the limit of open files
// allows: of two sockets each in the agent.
func (p *prey) connections(wanted int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		p.t.Fatal(err)
	}
	const others = 400
	n := min(wanted, (int(limit.Max)-others)/2)
	if n < wanted {
		p.t.Logf("%d connections instead of %d: a process may open %d files", n, wanted, limit.Max)
	}
	return n
}

// dial connects to the captured port. The connection is reset in the end.
func (p *prey) dial() (*net.TCPConn, error) {
	// Little room, so that what is not read stays with the agent.
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	conn, err := d.Dial("tcp", p.address)
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	return tcp, tcp.SetLinger(0)
}

// dialAll opens so many connections, and says a text on each. It closes them when the
// attack is over.
func (p *prey) dialAll(n int, text string) (all []*net.TCPConn, end func()) {
	for range n {
		conn, err := p.dial()
		if err != nil {
			p.t.Errorf("connection %d: %v", len(all), err)
			break
		}
		all = append(all, conn)
		if _, err := io.WriteString(conn, text); err != nil {
			p.t.Errorf("connection %d: %v", len(all), err)
		}
	}
	return all, func() {
		for _, conn := range all {
			_ = conn.Close()
		}
	}
}

// slowloris says heads a byte a second, beyond what a head may take.
func slowloris(p *prey) {
	all, end := p.dialAll(p.connections(5000), "GET / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nX-A: ")
	defer end()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 7 {
		<-tick.C
		for _, conn := range all {
			_, _ = conn.Write([]byte("a"))
		}
	}
}

// halfOpen opens connections that say no more than a text, for longer than a head may
// take.
func (p *prey) halfOpen(text string) {
	_, end := p.dialAll(p.connections(10_000), text)
	defer end()
	<-time.After(6 * time.Second)
}

// pour sends bodies of 1 GiB as far as they are taken, by both protocols.
func (p *prey) pour(user string) {
	over := time.Now().Add(3 * time.Second)
	var running sync.WaitGroup
	for range 40 {
		running.Go(func() {
			conn, err := p.dial()
			if err != nil {
				p.t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = fmt.Fprintf(conn, "POST /stands HTTP/1.1\r\nHost: a\r\nX-User: %s\r\nContent-Length: %d\r\n\r\n", user, 1<<30)
			buf := make([]byte, 64<<10)
			for range 1 << 30 / len(buf) {
				_ = conn.SetWriteDeadline(over)
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		})
		running.Go(func() {
			c, err := p.dialHTTP2()
			if err != nil {
				p.t.Error(err)
				return
			}
			defer c.close()
			for range 20 {
				c.head(user, http.MethodPost, "/stands", false)
			}
			c.flush()
			c.readAll() // credit is not looked at: as much as the agent takes
			for n := 0; n < 1<<30>>14 && c.err == nil && time.Now().Before(over); n++ {
				c.note(c.frames.WriteData(uint32(1+2*(n%20)), false, make([]byte, 1<<14)))
			}
		})
	}
	running.Wait()
}

// thirst asks for answers without end and does not read them.
func (p *prey) thirst(user string) {
	request := fmt.Sprintf("GET /endless HTTP/1.1\r\nHost: a\r\nX-User: %s\r\n\r\n", user)
	_, end := p.dialAll(100, request)
	defer end()
	for range 100 {
		c, err := p.dialHTTP2()
		if err != nil {
			p.t.Error(err)
			return
		}
		defer c.close()
		_ = c.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		_ = c.frames.WriteWindowUpdate(0, 1<<31-1-65535)
		for range 50 {
			c.head(user, http.MethodGet, "/endless", true)
		}
		c.flush()
	}
	<-time.After(3 * time.Second) // for as much to come as can
}

// rapidReset opens streams and resets them at once, on a new connection whenever one
// is closed.
func (p *prey) rapidReset(user string) {
	for left := 100_000; left > 0; {
		c, err := p.dialHTTP2()
		if err != nil {
			p.t.Error(err)
			return
		}
		c.readAll()
		for ; left > 0 && c.err == nil; left-- {
			id := c.head(user, http.MethodGet, "/", true)
			c.note(c.frames.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		c.finish()
	}
}

// continuations sends heads without end.
func continuations(p *prey) {
	p.flood(func(c *h2Client) error {
		if c.last == 0 {
			c.last = 1
			return c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
		}
		// A field that is not indexed, 16 KiB long.
		field := append([]byte{0x00, 0x01, 'a', 0x7f, 0x81, 0x7e}, bytes.Repeat([]byte{'x'}, 16_256)...)
		return c.frames.WriteContinuation(1, false, field)
	})
}

// bombs refer to an entry of 4 KiB thousands of times a head.
func bombs(p *prey) {
	head := []byte("\x82\x86\x84\x41\x01a\x40\x06x-user\x02me")                          // 4 fields and ours
	entry := append([]byte("\x40\x01b\x7f\x81\x1e"), bytes.Repeat([]byte{'x'}, 3968)...) // 62 from now on
	for _, refers := range []int{28, 8000} {                                             // 28 are just not too long
		p.flood(func(c *h2Client) error {
			block := append([]byte{}, head...)
			if c.last == 0 {
				block = append(block, entry...)
			}
			block = append(block, bytes.Repeat([]byte{0x80 | 62}, refers)...)
			c.last += 1 + min(c.last, 1)
			return c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: c.last, EndStream: true, EndHeaders: true, BlockFragment: block})
		})
	}
}

// largeHeads opens as many streams as may be, with heads of 100 KiB.
func largeHeads(p *prey) {
	value := strings.Repeat("~", 25<<10)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			c, err := p.dialHTTP2()
			if err != nil {
				p.t.Error(err)
				return
			}
			defer c.close()
			c.readAll()
			for range 240 {
				c.head("me", http.MethodGet, "/stands", true, "x-a", value, "x-b", value, "x-c", value, "x-d", value)
			}
			c.flush()
			_ = c.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
			<-c.reading
		})
	}
	running.Wait()
}

// flood has connections that say a frame again and again and read nothing, until
// nothing is taken any more.
func (p *prey) flood(say func(*h2Client) error) {
	const connections, most = 100, 100_000
	over := time.Now().Add(2 * time.Second)
	var running sync.WaitGroup
	for range connections {
		c, err := p.dialHTTP2()
		if err != nil {
			p.t.Error(err)
			break
		}
		defer c.close()
		running.Go(func() {
			for n := 0; n < most && c.err == nil && time.Now().Before(over); n++ {
				c.note(say(c))
			}
			c.flush()
		})
	}
	running.Wait()
}

func (p *prey) emptyData(user string) {
	p.flood(func(c *h2Client) error {
		if c.last == 0 {
			c.head(user, http.MethodPost, "/", false)
		}
		return c.frames.WriteData(1, false, nil)
	})
}

// credit gives none, and more than there may be.
func credit(p *prey) {
	var running sync.WaitGroup
	defer running.Wait()
	for n := range 400 {
		c, err := p.dialHTTP2()
		if err != nil {
			p.t.Error(err)
			return
		}
		user := []string{"app", "me"}[n%2]
		c.frames.AllowIllegalWrites = true
		id := c.head(user, http.MethodGet, "/endless", true)
		if n%4 < 2 {
			id = 0
		}
		c.note(c.frames.WriteWindowUpdate(id, uint32(n%3)))
		for range 3 {
			c.note(c.frames.WriteWindowUpdate(id, 1<<31-1))
		}
		c.readAll()
		running.Go(c.finish)
	}
}

// manyStreams opens 512 connections with 200 streams each.
func manyStreams(p *prey) {
	var all []*h2Client
	for n := range 500 {
		c, err := p.dialHTTP2()
		if err != nil {
			p.t.Error(err)
			return
		}
		defer c.close()
		all = append(all, c)
		c.readAll()
		for range 200 {
			id := c.head([]string{"app", "me"}[n%2], http.MethodPost, "/stands", false)
			c.note(c.frames.WriteData(id, false, make([]byte, 100)))
		}
		c.note(c.frames.WritePing(false, [8]byte{}))
		c.flush()
	}
	limit := time.After(patience)
	for n, c := range all {
		select {
		case <-c.ponged:
		case <-c.reading:
			p.t.Errorf("connection %d has ended", n)
		case <-limit:
			p.t.Errorf("connection %d has no answer to its PING", n)
			_ = p.agent.Process.Signal(syscall.SIGQUIT) // says where it is
			return
		}
	}
}

// h2Client is a client of HTTP/2 that says what it likes.
type h2Client struct {
	conn    *net.TCPConn
	out     *bufio.Writer
	frames  *http2.Framer
	block   bytes.Buffer
	heads   *hpack.Encoder
	last    uint32 // stream
	err     error
	ponged  chan struct{} // closed when a PING was answered
	reading chan struct{} // closed when readAll has ended
}

func (p *prey) dialHTTP2() (*h2Client, error) {
	conn, err := p.dial()
	if err != nil {
		return nil, err
	}
	c := &h2Client{conn: conn}
	c.out = bufio.NewWriterSize(limited{conn}, 32<<10)
	c.frames = http2.NewFramer(c.out, nil)
	c.heads = hpack.NewEncoder(&c.block)
	_, _ = c.out.WriteString(http2.ClientPreface)
	c.note(c.frames.WriteSettings())
	return c, nil
}

// limited is a connection whose writes fail when they are not taken.
type limited struct{ conn *net.TCPConn }

func (l limited) Write(b []byte) (int, error) {
	_ = l.conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	return l.conn.Write(b)
}

func (c *h2Client) note(err error) { c.err = errors.Join(c.err, err) }

func (c *h2Client) flush() { c.note(c.out.Flush()) }

// head opens a stream.
func (c *h2Client) head(user, method, path string, ends bool, more ...string) uint32 {
	c.block.Reset()
	fields := append([]string{":method", method, ":scheme", "http", ":path", path, ":authority", "a", "x-user", user}, more...)
	for n := 0; n < len(fields); n += 2 {
		_ = c.heads.WriteField(hpack.HeaderField{Name: fields[n], Value: fields[n+1], Sensitive: n >= 10})
	}
	c.last += 1 + min(c.last, 1)
	rest := c.block.Bytes()
	first := rest[:min(len(rest), 16<<10)]
	rest = rest[len(first):]
	c.note(c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: c.last, BlockFragment: first, EndStream: ends, EndHeaders: len(rest) == 0}))
	for len(rest) > 0 {
		next := rest[:min(len(rest), 16<<10)]
		rest = rest[len(next):]
		c.note(c.frames.WriteContinuation(c.last, len(rest) == 0, next))
	}
	return c.last
}

// readAll reads what comes and forgets it.
func (c *h2Client) readAll() {
	c.reading, c.ponged = make(chan struct{}), make(chan struct{})
	ponged := sync.OnceFunc(func() { close(c.ponged) })
	frames := http2.NewFramer(nil, bufio.NewReader(c.conn))
	go func() {
		defer close(c.reading)
		for {
			f, err := frames.ReadFrame()
			if err != nil {
				return
			}
			if f.Header().Type == http2.FramePing && f.Header().Flags.Has(http2.FlagPingAck) {
				ponged()
			}
		}
	}()
}

// finish ends the connection when everything has been taken.
func (c *h2Client) finish() {
	c.flush()
	_ = c.conn.CloseWrite()
	_ = c.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	if c.reading != nil {
		<-c.reading
	}
	c.close()
}

func (c *h2Client) close() {
	_ = c.conn.Close()
	if c.reading != nil {
		<-c.reading
	}
}

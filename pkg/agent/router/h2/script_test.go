package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a relay between a client, an app, and the handler "me" that takes requests
// with the header x-user: me.
type scene struct {
	t       *testing.T
	budget  *Budget
	told    string // the client's first frame
	app     net.Listener
	me      net.Listener
	actors  map[string]*actor
	gone    chan struct{} // closed: the session of me ends
	refuses bool
	held    chan struct{} // closed: me may be reached
	taken   chan struct{}
	ended   chan error
}

// actor is one end of a connection, and says and hears frames.
type actor struct {
	t      *testing.T
	name   string
	conn   *net.TCPConn
	frames *http2.Framer
	heads  *hpack.Encoder
	block  bytes.Buffer
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(ctx context.Context, l net.Listener) (splice.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// Open implements Taker, for me.
func (s *scene) Open(ctx context.Context) (splice.Conn, error) {
	<-s.held
	return dial(ctx, s.me)
}

// hold delays connections to me until the channel is closed.
func (s *scene) hold() chan struct{} {
	s.held = make(chan struct{})
	return s.held
}

// Refuses implements Taker.
func (s *scene) Refuses() bool { return s.refuses }

// Taken implements Taker.
func (s *scene) Taken() { s.taken <- struct{}{} }

// Ended implements Taker.
func (s *scene) Ended() <-chan struct{} { return s.gone }

func (s *scene) actor(name string, conn net.Conn) *actor {
	a := &actor{t: s.t, name: name, conn: conn.(*net.TCPConn), frames: http2.NewFramer(conn, conn)}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	a.heads = hpack.NewEncoder(&a.block)
	a.frames.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	a.frames.AllowIllegalWrites = true
	s.actors[name] = a
	s.t.Cleanup(func() { _ = conn.Close() })
	return a
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// newScene starts a relay whose app says these settings.
func newScene(t *testing.T, settings string) *scene {
	s := &scene{
		t: t, budget: NewBudget(1 << 20), app: listen(t), me: listen(t), actors: map[string]*actor{},
		gone: make(chan struct{}), taken: make(chan struct{}, 1000), ended: make(chan error, 1),
	}
	close(s.hold())
	front := listen(t)
	out, err := dial(t.Context(), front)
	if err != nil {
		t.Fatal(err)
	}
	in := accept(t, front).(*net.TCPConn)
	toApp, err := dial(t.Context(), s.app)
	if err != nil {
		t.Fatal(err)
	}
	client, app := s.actor("client", out), s.actor("app", accept(t, s.app))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		s.ended <- Serve(ctx, Config{
			Client: in, App: toApp,
			Pick: func(fields []hpack.HeaderField) Taker {
				if slices.ContainsFunc(fields, func(f hpack.HeaderField) bool { return f.Name == "x-user" && f.Value == "me" }) {
					return s
				}
				return nil
			},
			Mirrors: func(fields []hpack.HeaderField) []Mirror {
				m := Mirror{Dropped: func() {}, Done: func() {}}
				switch {
				case slices.Contains(fields, hpack.HeaderField{Name: "x-mirror", Value: "late"}):
					m.Taker = lateMirror{s}
				case slices.Contains(fields, hpack.HeaderField{Name: "x-mirror", Value: "me"}):
					m.Taker = s
				default:
					return nil
				}
				return []Mirror{m}
			},
			DialApp: func(ctx context.Context) (splice.Conn, error) { return dial(ctx, s.app) },
			Held:    s.budget,
			Log:     slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() {
		cancel()
		_ = client.conn.Close()
		select {
		case err := <-s.ended:
			t.Logf("the relay ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Error("the relay does not end")
		}
		if held := s.budget.Held(); held != 0 {
			t.Errorf("%d bytes are held after the end", held)
		}
	})
	app.say(strings.TrimSpace("SETTINGS " + settings))
	s.told = client.hear()
	return s
}

// join waits for a connection to a handler, or another one to the app, and reads what
// it begins with.
func (s *scene) join(name string, l net.Listener) {
	s.t.Helper()
	a := s.actor(name, accept(s.t, l))
	preface := make([]byte, len(Preface))
	if _, err := io.ReadFull(a.conn, preface); err != nil || string(preface) != Preface {
		s.t.Fatalf("%s: begins with %q, %v", name, preface, err)
	}
	if first := a.hear(); !strings.HasPrefix(first, "SETTINGS") {
		s.t.Fatalf("%s: first frame %s", name, first)
	}
	if second := a.hear(); second != "WINDOW 0 983041" {
		s.t.Fatalf("%s: second frame %s", name, second)
	}
}

// play runs lines of the form "ACTOR> FRAME", which says it, and "ACTOR< FRAME", which
// waits for it. "me+" and "spare+" wait for a connection.
func (s *scene) play(script string) {
	s.t.Helper()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		n := strings.IndexAny(line, "<>+")
		if n < 0 {
			continue
		}
		name, text := line[:n], strings.TrimSpace(line[n+1:])
		a := s.actors[name]
		switch {
		case line[n] == '+' && name == "me":
			s.join(name, s.me)
		case line[n] == '+':
			s.join(name, s.app)
		case line[n] == '>':
			a.say(text)
		default:
			a.expect(text)
		}
	}
}

// say writes the frame that a text means, in the spelling of spell.
func (a *actor) say(text string) {
	a.t.Helper()
	words := strings.Split(text, " ")
	kind, words := words[0], words[1:]
	number := func(base int) uint32 {
		n, err := strconv.ParseUint(words[0], base, 32)
		if err != nil {
			a.t.Fatalf("%s: %v", text, err)
		}
		words = words[1:]
		return uint32(n)
	}
	flag := func(name string) bool {
		if len(words) == 0 || words[0] != name {
			return false
		}
		words = words[1:]
		return true
	}
	var err error
	switch kind {
	case "HEADERS":
		h := http2.HeadersFrameParam{StreamID: number(10), EndStream: flag("ends"), EndHeaders: true}
		a.block.Reset()
		for _, word := range words {
			name, value, _ := strings.Cut(word[1:], "=")
			field := hpack.HeaderField{Name: word[:1] + name, Value: strings.TrimSuffix(value, "!")}
			field.Sensitive = strings.HasSuffix(value, "!")
			_ = a.heads.WriteField(field)
		}
		rest := a.block.Bytes()
		h.BlockFragment, rest = rest[:min(len(rest), 10_000)], rest[min(len(rest), 10_000):]
		h.EndHeaders = len(rest) == 0
		err = a.frames.WriteHeaders(h)
		for len(rest) > 0 {
			next := rest[:min(len(rest), 10_000)]
			rest = rest[len(next):]
			err = errors.Join(err, a.frames.WriteContinuation(h.StreamID, len(rest) == 0, next))
		}
	case "DATA":
		id, ends := number(10), flag("ends")
		var data []byte
		if len(words) > 0 {
			data = []byte(words[0])
		}
		err = a.frames.WriteData(id, ends, data)
	case "ZEROS": // so many bytes of data, in frames
		id, ends := number(10), flag("ends")
		for n := int(number(10)); n > 0; n -= frameSize {
			err = errors.Join(err, a.frames.WriteData(id, ends && n <= frameSize, make([]byte, min(n, frameSize))))
		}
	case "PADDED":
		id, ends := number(10), flag("ends")
		err = a.frames.WriteDataPadded(id, ends, []byte(words[0]), make([]byte, 9))
	case "RST":
		id := number(10)
		err = a.frames.WriteRSTStream(id, codeNamed(words[0]))
	case "WINDOW":
		id := number(10)
		err = a.frames.WriteWindowUpdate(id, number(10))
	case "PING":
		err = a.frames.WritePing(flag("ack"), [8]byte([]byte(words[0])))
	case "SETTINGS":
		if flag("ack") {
			err = a.frames.WriteSettingsAck()
			break
		}
		var settings []http2.Setting
		for len(words) > 0 && words[0] != "" {
			id, value, _ := strings.Cut(words[0], "=")
			words = []string{id, value, strings.Join(words[1:], " ")}
			settings = append(settings, http2.Setting{ID: http2.SettingID(number(10)), Val: number(10)})
			words = strings.Split(words[0], " ")
		}
		err = a.frames.WriteSettings(settings...)
	case "GOAWAY":
		last := number(10)
		err = a.frames.WriteGoAway(last, codeNamed(words[0]), []byte(strings.Join(words[1:], " ")))
	case "PRIORITY":
		id := number(10)
		err = a.frames.WritePriority(id, http2.PriorityParam{StreamDep: number(10), Weight: uint8(number(10))})
	case "RAW":
		kind, flags, id := number(16), number(16), number(10)
		err = a.frames.WriteRawFrame(http2.FrameType(kind), http2.Flags(flags), id, []byte(strings.Join(words, " ")))
	case "FIN":
		err = a.conn.CloseWrite()
	case "GONE":
		err = splice.Reset(a.conn)
	default:
		a.t.Fatalf("%s cannot say %s", a.name, text)
	}
	if err != nil {
		a.t.Fatalf("%s: %s: %v", a.name, text, err)
	}
}

// malformed is a request whose field has a capital letter.
func malformed(id uint32) http2.HeadersFrameParam {
	return http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: []byte("\x00\x01A\x01b")}
}

// expect waits for a frame.
func (a *actor) expect(text string) {
	a.t.Helper()
	if heard := a.hear(); heard != text {
		a.t.Fatalf("%s heard\n\t%.500s, not\n\t%.500s", a.name, heard, text)
	}
}

func codeNamed(name string) http2.ErrCode {
	for code := range http2.ErrCode(14) {
		if code.String() == name {
			return code
		}
	}
	panic("no code " + name)
}

// hear waits for a frame and spells it. The end of the connection is FIN, or GONE.
func (a *actor) hear() string {
	a.t.Helper()
	f, err := a.frames.ReadFrame()
	switch {
	case errors.Is(err, io.EOF):
		return "FIN"
	case errors.Is(err, http2.ErrFrameTooLarge), errors.As(err, new(http2.ConnectionError)), errors.As(err, new(http2.StreamError)):
		a.t.Fatalf("%s was sent a faulty frame: %v, %v", a.name, err, a.frames.ErrorDetail())
	case errors.Is(err, syscall.ECONNRESET):
		return "GONE"
	case err != nil:
		a.t.Fatalf("%s heard nothing: %v", a.name, err)
	}
	return spell(f)
}

func spell(f http2.Frame) string {
	id := f.Header().StreamID
	ends := ""
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if f.StreamEnded() {
			ends = " ends"
		}
		text := fmt.Sprintf("HEADERS %d%s", id, ends)
		for _, field := range f.Fields {
			text += fmt.Sprintf(" %s=%s", field.Name, field.Value)
			if field.Sensitive {
				text += "!"
			}
		}
		return text
	case *http2.DataFrame:
		if f.StreamEnded() {
			ends = " ends"
		}
		if data := f.Data(); len(data) == 0 {
			return fmt.Sprintf("DATA %d%s", id, ends)
		} else if data[0] != 0 {
			return fmt.Sprintf("DATA %d%s %s", id, ends, data)
		}
		return fmt.Sprintf("ZEROS %d%s %d", id, ends, len(f.Data()))
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST %d %s", id, f.ErrCode)
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW %d %d", id, f.Increment)
	case *http2.PingFrame:
		if f.IsAck() {
			return fmt.Sprintf("PING ack %s", f.Data)
		}
		return fmt.Sprintf("PING %s", f.Data)
	case *http2.SettingsFrame:
		text := "SETTINGS"
		if f.IsAck() {
			text += " ack"
		}
		_ = f.ForeachSetting(func(s http2.Setting) error {
			text += fmt.Sprintf(" %d=%d", uint16(s.ID), s.Val)
			return nil
		})
		return text
	case *http2.GoAwayFrame:
		return strings.TrimSpace(fmt.Sprintf("GOAWAY %d %s %s", f.LastStreamID, f.ErrCode, f.DebugData()))
	case *http2.PriorityFrame:
		return fmt.Sprintf("PRIORITY %d %d %d", id, f.StreamDep, f.Weight)
	case *http2.PriorityUpdateFrame:
		return fmt.Sprintf("RAW 10 0 %d \x00\x00\x00%c%s", id, f.PrioritizedStreamID, f.Priority)
	case *http2.UnknownFrame:
		return fmt.Sprintf("RAW %x %x %d %s", byte(f.Type), byte(f.Flags), id, f.Payload())
	}
	return fmt.Sprint(f)
}

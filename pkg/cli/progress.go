package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// printer shows progress on stderr: on a terminal, one line that changes with
// a mark for each finished step; elsewhere, plain lines.
type printer struct {
	w        io.Writer
	terminal bool
	quiet    bool

	mu      sync.Mutex
	current string
	frame   int
	stop    chan struct{}
	stopped sync.WaitGroup
}

const spinnerInterval = 120 * time.Millisecond

var spinner = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// newPrinter starts a printer; close ends it.
func newPrinter(w io.Writer, quiet bool) *printer {
	p := &printer{w: w, quiet: quiet, stop: make(chan struct{})}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.terminal = true
		p.stopped.Go(p.spin)
	}
	return p
}

func (p *printer) event(e api.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Text == "" || (p.quiet && !e.Warning) {
		return
	}
	p.erase()
	switch {
	case e.Warning:
		p.line("warning: " + e.Text)
	case e.Done && p.terminal:
		p.current = ""
		p.line("✓ " + e.Text)
	case p.terminal:
		p.current = e.Text
	default:
		p.line(e.Text)
	}
	p.draw()
}

// pause clears the changing line so that something else (a password prompt)
// can use the terminal; the next event draws it again.
func (p *printer) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.current = ""
}

func (p *printer) close() {
	select {
	case <-p.stop:
		return
	default:
	}
	close(p.stop)
	p.stopped.Wait()
	p.pause()
}

func (p *printer) spin() {
	tick := time.NewTicker(spinnerInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.stop:
			return
		}
		p.mu.Lock()
		p.frame++
		p.erase()
		p.draw()
		p.mu.Unlock()
	}
}

func (p *printer) erase() {
	if p.terminal && p.current != "" {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func (p *printer) draw() {
	if p.terminal && p.current != "" {
		_, _ = fmt.Fprintf(p.w, "%s %s", spinner[p.frame%len(spinner)], p.current)
	}
}

func (p *printer) line(text string) { _, _ = fmt.Fprintln(p.w, text) }

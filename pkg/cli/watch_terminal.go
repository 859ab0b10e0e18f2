package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/intercept"
)

// runTerminal shows the requests as a list until the user leaves it.
func (o *watchOptions) runTerminal(ctx context.Context, c *cluster.Cluster) error {
	parent := ctx
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	program := tea.NewProgram(newWatchModel(o.workload, c.Owner()), tea.WithContext(ctx), tea.WithInput(o.f.In), tea.WithOutput(o.f.Out))
	var watching sync.WaitGroup
	var failed error
	watching.Go(func() {
		err := intercept.Watch(ctx, c, o.workload, o.handler(c,
			func(e agent.Exchange) { program.Send(e) },
			func(e api.Event) { program.Send(watchNote(e.Text)) }))
		switch {
		case err != nil && ctx.Err() != nil: // the user has left
			return
		case err != nil:
			failed = err
			program.Quit()
			return
		}
		program.Send(watchNote("nobody intercepts " + o.workload + " any more"))
	})
	_, err := program.Run()
	cancel()
	watching.Wait()
	if errors.Is(err, tea.ErrProgramKilled) && parent.Err() != nil {
		err = nil // interrupted
	}
	return errors.Join(failed, err)
}

// maxShown is how many requests the list keeps.
const maxShown = 10_000

// watchNote is a line below the list.
type watchNote string

// watchModel is the list on the terminal.
type watchModel struct {
	workload string
	me       agent.Owner

	all    []agent.Exchange
	missed int64
	note   string

	filter    string // in lower case
	filtering bool   // it is being typed
	shown     []int  // of all, those that pass the filter
	at        int    // of shown, the one that is chosen
	follow    bool   // the newest is chosen
	open      bool   // the chosen one is shown whole

	width, height int
}

func newWatchModel(workload string, me agent.Owner) *watchModel {
	return &watchModel{workload: workload, me: me, follow: true, width: 80, height: 24}
}

func (m *watchModel) Init() tea.Cmd { return nil }

func (m *watchModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = max(msg.Width, 20), max(msg.Height, 4)
	case watchNote:
		m.note = string(msg)
	case agent.Exchange:
		m.add(msg)
	case tea.KeyPressMsg:
		if m.filtering && msg.String() != "ctrl+c" {
			m.typed(msg)
			return m, nil
		}
		return m, m.pressed(msg.String())
	}
	return m, nil
}

func (m *watchModel) add(e agent.Exchange) {
	m.missed += e.Missed
	m.all = append(m.all, e)
	if len(m.all) > maxShown {
		const oldest = maxShown / 10
		gone, _ := slices.BinarySearch(m.shown, oldest)
		m.all = append(m.all[:0], m.all[oldest:]...)
		m.at = max(0, m.at-gone)
		m.sift()
		return
	}
	if m.passes(e) {
		m.shown = append(m.shown, len(m.all)-1)
	}
	m.settle()
}

func (m *watchModel) passes(e agent.Exchange) bool {
	return m.filter == "" || strings.Contains(strings.ToLower(lineOf(e, m.me)), m.filter)
}

// sift finds what passes the filter.
func (m *watchModel) sift() {
	m.shown = m.shown[:0]
	for n, e := range m.all {
		if m.passes(e) {
			m.shown = append(m.shown, n)
		}
	}
	m.settle()
}

// settle keeps the choice within what is shown.
func (m *watchModel) settle() {
	if m.follow || m.at >= len(m.shown) {
		m.at = max(0, len(m.shown)-1)
	}
}

func (m *watchModel) typed(key tea.KeyPressMsg) {
	switch key.String() {
	case "enter":
		m.filtering = false
	case "esc":
		m.filtering, m.filter = false, ""
	case "backspace":
		if runes := []rune(m.filter); len(runes) > 0 {
			m.filter = string(runes[:len(runes)-1])
		}
	default:
		m.filter += strings.ToLower(printable(key.Text))
	}
	m.sift()
}

func (m *watchModel) pressed(key string) tea.Cmd {
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "esc":
		switch {
		case m.open:
			m.open = false
		default:
			m.filter = ""
			m.sift()
		}
	case "enter":
		m.open = !m.open && len(m.shown) > 0
		m.follow = m.follow && !m.open
	case "/":
		m.filtering, m.open = true, false
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-m.rows())
	case "pgdown":
		m.move(m.rows())
	case "home", "g":
		m.move(-len(m.shown))
	case "end", "G":
		m.move(len(m.shown))
	}
	return nil
}

// move chooses another request; the last one is followed.
func (m *watchModel) move(by int) {
	m.at = max(0, min(m.at+by, len(m.shown)-1))
	m.follow = m.at >= len(m.shown)-1
}

// rows is how many requests fit.
func (m *watchModel) rows() int { return max(1, m.height-3) }

func (m *watchModel) View() tea.View {
	view := tea.NewView(m.text())
	view.AltScreen = true
	return view
}

func (m *watchModel) text() string {
	var b strings.Builder
	line := func(text string, style string) {
		text = ansi.Truncate(text, m.width, "…")
		if style != "" {
			text = style + fill(text, m.width) + "\x1b[0m"
		}
		b.WriteString(text + "\n")
	}
	const bold, inverse = "\x1b[1m", "\x1b[7m"
	columns := watchColumns(m.width)
	line(columns("TIME", "METHOD", "PATH", "STATUS", "TOOK", "SENT > GOT", "BY"), bold)
	if m.open && m.at < len(m.shown) {
		details := m.details(m.all[m.shown[m.at]])
		for n := range m.rows() {
			text := ""
			if n < len(details) {
				text = details[n]
			}
			line(text, "")
		}
	} else {
		first := max(0, min(m.at-m.rows()/2, len(m.shown)-m.rows()))
		for n := first; n < first+m.rows(); n++ {
			if n >= len(m.shown) {
				line("", "")
				continue
			}
			style := ""
			if n == m.at {
				style = inverse
			}
			e := m.all[m.shown[n]]
			path := e.Path
			if m.width >= narrow {
				path = e.Host + path
			}
			line(columns(e.Begin.Local().Format("15:04:05.000"), printable(e.Method), printable(path), statusOf(e), took(e), traffic(e), answererOf(e, m.me)), style)
		}
	}
	status := fmt.Sprintf("%s: %d of %d requests", m.workload, len(m.shown), len(m.all))
	if m.missed > 0 {
		status += fmt.Sprintf(", %d missed", m.missed)
	}
	if m.filter != "" || m.filtering {
		status += "  /" + m.filter
	}
	if m.note != "" {
		status += "  " + printable(m.note)
	}
	line(status, bold)
	b.WriteString(ansi.Truncate("↑↓ move  enter open  / filter  esc back  q leave", m.width, "…"))
	return b.String()
}

const (
	// narrow is a terminal that shows neither hosts nor how many bytes passed; opening
	// a request does.
	narrow        = 110
	trafficColumn = 5
)

// watchColumns lays a row out on a width; the path gets what the others leave.
func watchColumns(width int) func(cells ...string) string {
	widths := []int{12, 6, 0, 8, 9, 18, 16}
	if width < narrow {
		widths[trafficColumn] = 0
	}
	rest := width
	for _, w := range widths {
		if w > 0 {
			rest -= w + 2
		}
	}
	widths[2] = max(10, rest)
	return func(cells ...string) string {
		var out []string
		for n, text := range cells {
			if widths[n] == 0 {
				continue
			}
			out = append(out, fill(ansi.Truncate(text, widths[n], "…"), widths[n]))
		}
		return strings.Join(out, "  ")
	}
}

// fill pads a text to a width of a terminal.
func fill(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
}

// details is all that is known of a request.
func (m *watchModel) details(e agent.Exchange) []string {
	lines := []string{
		"", fmt.Sprintf("  %s %s%s", printable(e.Method), printable(e.Host), printable(e.Path)), "",
		"  began      " + e.Begin.Local().Format(time.RFC3339Nano),
		"  took       " + took(e),
		"  protocol   " + printable(e.Protocol),
		"  status     " + statusOf(e),
		fmt.Sprintf("  sent       %d bytes", e.Sent),
		fmt.Sprintf("  got        %d bytes", e.Got),
		"  answered   " + answererOf(e, m.me),
		fmt.Sprintf("  pod        %s, port %d", printable(e.Pod), e.Port),
		"  client     " + printable(e.Client),
	}
	if e.By != nil {
		lines = append(lines, fmt.Sprintf("  intercept  %s, since %s", printable(e.ID), e.By.Since.Local().Format(time.DateTime)))
	}
	return lines
}

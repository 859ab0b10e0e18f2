//go:build linux

package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/template"
)

// A family is a plot of the rows that belong together.
type family struct {
	File, Title string
	rows        []string
}

var families = []family{
	{"bulk", "Bulk transfers", []string{rowDown, rowDownMany, rowUp, rowUpMany}},
	{"requests", "Small requests", []string{rowSmall, rowTail, rowSmallMany}},
	{"connections", "New connections", []string{rowNew, rowNewMany}},
	{"interactive", "Small requests during a download", []string{rowMedianBulk, rowTailBulk}},
}

const (
	resultsBegin = "<!-- results: what `make bench` wrote -->\n"
	resultsEnd   = "<!-- end of results -->\n"
)

//go:embed results.md.tmpl plot.svg.tmpl
var templates embed.FS

// writeDocs puts the results into dir/benchmarks.md, between its two marks,
// and plots and JSON into dir/benchmarks.
func writeDocs(dir string, r Report) error {
	page := filepath.Join(dir, "benchmarks.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok1 := bytes.Cut(text, []byte(resultsBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(resultsEnd))
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no place for results", page)
	}
	t, err := template.New("").Funcs(template.FuncMap{"number": number, "plus": func(a, b int) int { return a + b }}).ParseFS(templates, "*.tmpl")
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, "benchmarks")
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // documentation, for all to read
		return err
	}
	var plots []family
	for _, f := range families {
		p := newPlot(f, r)
		if len(p.Groups) == 0 {
			continue
		}
		var svg bytes.Buffer
		if err := t.ExecuteTemplate(&svg, "plot.svg.tmpl", p); err != nil {
			return err
		}
		if err := write(filepath.Join(folder, f.File+".svg"), svg.Bytes()); err != nil {
			return err
		}
		plots = append(plots, f)
	}
	if err := writeJSON(filepath.Join(folder, "results.json"), r); err != nil {
		return err
	}
	var results bytes.Buffer
	if err := t.ExecuteTemplate(&results, "results.md.tmpl", struct {
		Report
		Ways  []Way
		Plots []family
	}{r, Ways, plots}); err != nil {
		return err
	}
	return write(page, slices.Concat(before, []byte(resultsBegin), results.Bytes(), []byte(resultsEnd), after))
}

func writeJSON(file string, r Report) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return write(file, append(text, '\n'))
}

func readJSON(file string) (r Report, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	if len(r.Rows)+len(r.Routes) == 0 {
		return r, errors.New(file + " has no rows")
	}
	return r, nil
}

func write(file string, text []byte) error {
	return os.WriteFile(file, text, 0o644) //nolint:gosec // documentation, for all to read
}

// plot shows how many times better than kubectl port-forward each way is.
type plot struct {
	Title  string
	Height int
	One    int // where a bar of port-forward's length ends
	Groups []group
	Legend []bar
}

type group struct {
	Y    int
	Name string
	Bars []bar
}

type bar struct {
	X, Y, Width int
	Colour      string
	Label       string
}

// Measures of a plot, in its pixels.
const (
	barHeight  = 14
	groupGap   = 12
	plotTop    = 64
	barsLeft   = 300
	onePixels  = 90 // of a bar as long as port-forward's
	mostPixels = 540
)

var colours = map[Way]string{Tele: "#1a73e8", PortForward: "#9aa0a6", Tunnel: "#12b5cb", Bare: "#f9ab00", Bare4: "#e37400"}

func newPlot(f family, r Report) plot {
	p := plot{Title: f.Title, One: barsLeft + onePixels}
	y := plotTop
	for _, name := range f.rows {
		for _, row := range r.Rows {
			if row.Name != name {
				continue
			}
			g := group{Y: y + barHeight - 3, Name: fmt.Sprintf("%s, + %d ms", row.Name, row.RTT)}
			for _, w := range Ways {
				better := row.Better(w, PortForward)
				if better == 0 {
					continue
				}
				g.Bars = append(g.Bars, bar{
					X: barsLeft, Y: y, Width: min(int(better*onePixels), mostPixels), Colour: colours[w],
					Label: fmt.Sprintf("%s %s (%s×)", number(row.Values[w]), row.Unit, number(better)),
				})
				y += barHeight
			}
			if len(g.Bars) > 0 {
				p.Groups = append(p.Groups, g)
				y += groupGap
			}
		}
	}
	p.Height = y
	for i, w := range Ways {
		p.Legend = append(p.Legend, bar{X: 16 + i*170, Y: 36, Width: 12, Colour: colours[w], Label: string(w)})
	}
	return p
}

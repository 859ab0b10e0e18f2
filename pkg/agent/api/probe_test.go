package api

import (
	"slices"
	"strings"
	"testing"
)

func TestParseProbeRequest(t *testing.T) {
	r, err := ParseProbeRequest([]byte(`{"address":"10.96.0.7:80","mss":650}`))
	if want := (ProbeRequest{Address: "10.96.0.7:80", MSS: 650}); err != nil || r != want {
		t.Errorf("read as %+v, %v", r, err)
	}
	for text, want := range map[string]string{
		`{"address":"front:80","mss":650}`:                     `"front:80" is not IP:port`,
		`{"address":"10.96.0.7","mss":650}`:                    "is not IP:port",
		`{"address":"10.96.0.7:0","mss":650}`:                  "is not IP:port",
		`{"address":"10.96.0.7:80","mss":550}`:                 "MSS 550 is not one of 600 to 1200 in steps of 50",
		`{"address":"10.96.0.7:80","mss":601}`:                 "MSS 601",
		`{"address":"10.96.0.7:80","mss":1250}`:                "MSS 1250",
		`{"address":"10.96.0.7:80"}`:                           "MSS 0",
		`{"address":"10.96.0.7:80","mss":650,"payload":"GET"}`: `unknown field "payload"`,
	} {
		r, err := ParseProbeRequest([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "probe request: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", text, r, err, want)
		}
	}
}

// TestMarks: no segment size can be of two marks, whatever options it has, and
// none of what others announce is of any.
func TestMarks(t *testing.T) {
	marks := ProbeMarks()
	if len(marks) != 13 || marks[0] != 600 || marks[12] != 1200 {
		t.Errorf("marks %v", marks)
	}
	of := func(mss uint16) (found []uint16) {
		for _, m := range marks {
			if (ProbeRequest{MSS: m}).Announced(mss) {
				found = append(found, m)
			}
		}
		return found
	}
	for _, m := range marks {
		for _, options := range []uint16{0, 12, 40} {
			if got := of(m - options); !slices.Equal(got, []uint16{m}) {
				t.Errorf("%d less %d was taken for %v", m, options, got)
			}
		}
		if (ProbeRequest{MSS: m}).Announced(m+1) || (ProbeRequest{MSS: m}).Announced(m-41) {
			t.Errorf("%d is taken for more or less than it is", m)
		}
	}
	for _, mss := range []uint16{0, 48, 536, 1208, 1220, 1228, 1360, 1398, 1448, 1460, 8948, 32741, 65483, 65535} {
		if got := of(mss); got != nil {
			t.Errorf("a client with %d was taken for %v", mss, got)
		}
	}
}

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/miekg/dns"
)

func TestOffice(t *testing.T) {
	o, err := newOffice("office.example", []string{
		"intranet.office.example. 5 IN A 203.0.113.250",
		`long.office.example. 5 IN TXT "x" "y"`,
	})
	if err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	server := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", Handler: o}
	server.NotifyStartedFunc = func() { address <- server.PacketConn.LocalAddr().String() }
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	at := <-address
	for _, tt := range []struct {
		name    string
		kind    uint16
		rcode   int
		answers int
	}{
		{"intranet.office.example.", dns.TypeA, dns.RcodeSuccess, 1},
		{"INTRANET.office.example.", dns.TypeA, dns.RcodeSuccess, 1},
		{"intranet.office.example.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"long.office.example.", dns.TypeTXT, dns.RcodeSuccess, 1},
		{"nobody.office.example.", dns.TypeA, dns.RcodeNameError, 0},
		{"front.shop.", dns.TypeA, dns.RcodeNameError, 0},
	} {
		reply, err := dns.Exchange(new(dns.Msg).SetQuestion(tt.name, tt.kind), at)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Rcode != tt.rcode || len(reply.Answer) != tt.answers {
			t.Errorf("%s %s: %s, %d answers, want %s and %d", tt.name, dns.TypeToString[tt.kind],
				dns.RcodeToString[reply.Rcode], len(reply.Answer), dns.RcodeToString[tt.rcode], tt.answers)
		}
	}
	counts := func(method string) map[string]int {
		t.Helper()
		w := httptest.NewRecorder()
		o.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		counted := map[string]int{}
		if w.Code == http.StatusOK {
			if err := json.NewDecoder(w.Body).Decode(&counted); err != nil {
				t.Fatal(err)
			}
		}
		return counted
	}
	got := counts(http.MethodGet)
	if got["intranet.office.example"] != 3 || got["front.shop"] != 1 || got["other"] != 0 {
		t.Errorf("counts %v", got)
	}
	counts(http.MethodDelete)
	if got := counts(http.MethodGet); len(got) != 0 {
		t.Errorf("counts after DELETE: %v", got)
	}
}

func TestOfficeRefusesBadRecords(t *testing.T) {
	if _, err := newOffice("office.example", []string{"intranet A nowhere"}); err == nil {
		t.Error("took a record that is none")
	}
}

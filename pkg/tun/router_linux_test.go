package tun

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// has lists what dev has, as Router sees it and as ExistingRoutes does.
func has(t *testing.T, dev string) Network {
	t.Helper()
	link, err := netlink.LinkByName(dev)
	if err != nil {
		t.Fatal(err)
	}
	var n Network
	if n.Addrs, err = addrsOf(link); err != nil {
		t.Fatal(err)
	}
	if n.Routes, err = routesOf(link); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(n.Addrs, netip.Prefix.Compare)
	slices.SortFunc(n.Routes, netip.Prefix.Compare)
	return n
}

func equal(a, b Network) bool {
	return slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Routes, b.Routes)
}

func TestRouterSet(t *testing.T) {
	d := open(t)
	r := NewRouter()
	before, err := ExistingRoutes()
	if err != nil {
		t.Fatal(err)
	}
	one := Network{Addrs: prefixes("198.18.0.1/30"), Routes: prefixes("10.96.0.0/16", "10.244.0.0/16")}
	two := Network{Addrs: prefixes("198.18.0.1/30", "fd00:7e1e::1/126"), Routes: prefixes("10.96.0.0/16", "192.0.2.0/24", "fd00:96::/112")}
	three := Network{Addrs: prefixes("198.18.4.1/30"), Routes: prefixes("10.96.0.0/16", "198.18.4.0/30")}
	steps := []Network{one, one, two, one, two, three, {}, {}, two}
	for i, want := range steps {
		if err := r.Set(d.Name(), want); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		got := has(t, d.Name())
		if i == 5 {
			want.Routes = prefixes("10.96.0.0/16") // the other comes with the address
		}
		if !equal(got, want) {
			t.Fatalf("step %d: got %+v, want %+v", i, got, want)
		}
	}
	existing, err := ExistingRoutes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes("10.96.0.0/16", "192.0.2.0/24", "fd00:96::/112", "198.18.0.0/30") {
		if !slices.Contains(existing, p) {
			t.Errorf("existing routes %v lack %s", existing, p)
		}
	}
	// The device goes with its file, and everything else with it.
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Set(d.Name(), Network{}); err != nil {
		t.Errorf("empty set on a device that is gone: %v", err)
	}
	if err := r.Set(d.Name(), one); err == nil {
		t.Error("set on a device that is gone: no error")
	}
	after, err := ExistingRoutes()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, after) {
		t.Errorf("routes before %v, after %v", before, after)
	}
}

// A route that is there is not replaced, and stays when ours is removed.
func TestRouterLeavesOthers(t *testing.T) {
	mine, other := open(t), open(t)
	r := NewRouter()
	theirs := Network{Addrs: prefixes("198.18.8.1/30"), Routes: prefixes("10.96.0.0/16")}
	if err := r.Set(other.Name(), theirs); err != nil {
		t.Fatal(err)
	}
	err := r.Set(mine.Name(), Network{Addrs: prefixes("198.18.0.1/30"), Routes: prefixes("10.96.0.0/16")})
	if err == nil || !strings.Contains(err.Error(), "10.96.0.0/16") {
		t.Errorf("set over another's route: %v", err)
	}
	if err := r.Set(mine.Name(), Network{}); err != nil {
		t.Fatal(err)
	}
	if got := has(t, other.Name()); !equal(got, theirs) {
		t.Errorf("the other device has %+v, want %+v", got, theirs)
	}
}

// A device of the same name that came later belongs to someone else.
func TestRouterKnowsItsDevice(t *testing.T) {
	first := open(t)
	r, name := NewRouter(), first.Name()
	n := Network{Addrs: prefixes("198.18.0.1/30"), Routes: prefixes("10.96.0.0/16")}
	if err := r.Set(name, n); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	second := open(t)
	if second.Name() != name {
		t.Skipf("SKIPPED: the kernel chose %s instead of %s", second.Name(), name)
	}
	if err := NewRouter().Set(name, n); err != nil {
		t.Fatal(err)
	}
	if err := r.Set(name, Network{}); err != nil {
		t.Error(err)
	}
	if got := has(t, name); !equal(got, n) {
		t.Errorf("the second device has %+v, want %+v", got, n)
	}
	if err := r.Set(name, n); err == nil {
		t.Error("changed the second device")
	}
}

func TestToPrefix(t *testing.T) {
	for s, want := range map[string]string{"10.0.0.0/8": "10.0.0.0/8", "::/0": "::/0", "fd00::/64": "fd00::/64"} {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := toPrefix(n); !ok || got != netip.MustParsePrefix(want) {
			t.Errorf("%s: %s", s, got)
		}
	}
	if _, ok := toPrefix(nil); ok {
		t.Error("nil is a prefix")
	}
}

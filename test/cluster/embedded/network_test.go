package embedded

import (
	"context"
	"strings"
	"testing"
)

func TestNetworkPlan(t *testing.T) {
	opt := Options{Name: "x"}
	laptop, err := opt.laptopPlan("x-l-a", "laptop5", 5)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	record := func(_ context.Context, stdin string, argv ...string) (string, error) {
		got.WriteString("# " + strings.Join(argv, " ") + "\n" + stdin)
		return "", nil
	}
	for _, batch := range append(opt.networkPlan(), laptop...) {
		if err := batch.apply(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	const want = `# ip -n x -batch -
link set lo up
addr add 192.0.2.1/32 dev lo
link add node2 type veth peer name eth0 netns x-node2
addr add 198.51.100.1/24 dev node2
link set node2 up
# ip -n x-node2 -batch -
link set lo up
addr add 198.51.100.2/24 dev eth0
link set eth0 up
route add default via 198.51.100.1
# ip -n x -batch -
route add 10.244.2.0/24 via 198.51.100.2
route add 10.96.0.0/16 dev node2 src 198.51.100.1
# ip -n x -batch -
link add laptop5 type veth peer name eth0 netns x-l-a
addr add 203.0.113.21/30 dev laptop5
link set laptop5 up
# ip -n x-l-a -batch -
link set lo up
addr add 198.18.0.53/32 dev lo
addr add 203.0.113.22/30 dev eth0
link set eth0 up
route add 192.0.2.1/32 via 203.0.113.21
`
	if got.String() != want {
		t.Errorf("plan:\n%s\nwant:\n%s", got.String(), want)
	}
}

func TestLaptopSubnet(t *testing.T) {
	for i, want := range map[int]string{0: "203.0.113.2", 1: "203.0.113.6", 63: "203.0.113.254"} {
		if _, got, err := laptopSubnet(i); err != nil || got.String() != want {
			t.Errorf("laptop %d has %s, %v, want %s", i, got, err, want)
		}
	}
	for _, i := range []int{-1, maxLaptops} {
		if _, _, err := laptopSubnet(i); err == nil {
			t.Errorf("there is a laptop %d", i)
		}
	}
}

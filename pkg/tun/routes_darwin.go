package tun

import "fmt"

// Routes lists what ExistingRoutes does, with the interface of each.
func Routes() ([]Route, error) { return netstat(execRunner{}) }

func netstat(r runner) ([]Route, error) {
	out, err := r.Run([]string{"netstat", "-rn"})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return parseNetstat(out), nil
}

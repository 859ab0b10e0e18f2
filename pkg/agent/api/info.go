package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
)

// Info is what an agent tells about itself and its pod.
type Info struct {
	Version     string         `json:"version"`
	UpSeconds   float64        `json:"upSeconds"` // since the agent listens
	Pod         string         `json:"pod"`
	PodIPs      []netip.Addr   `json:"podIPs"`
	Nameservers []netip.Addr   `json:"nameservers"`
	Search      []string       `json:"search"`
	Routes      []netip.Prefix `json:"routes"`
	Captures    []CaptureInfo  `json:"captures"`
	Sessions    []string       `json:"sessions"` // the IDs of those that are reached
}

// maxInfo bounds what ReadInfo reads.
const maxInfo = 1 << 20

// ReadInfo reads the answer of ServiceInfo, of at most 1 MiB. Fields that it
// does not know are ignored: a newer agent has more to tell.
func ReadInfo(r io.Reader) (Info, error) {
	var info Info
	if err := json.NewDecoder(io.LimitReader(r, maxInfo)).Decode(&info); err != nil {
		return Info{}, fmt.Errorf("read what the agent says about itself: %w", err)
	}
	return info, nil
}

package api

import (
	"io"
	"net/netip"
	"slices"
)

// Feature is something that an agent can be asked for. An agent may be older or
// newer than the session that meets it, so a session asks only for what
// Info.Features names, and does without what is missing. An agent refuses what
// it does not know, with tunnel.Unknown.
type Feature string

// The features of an agent.
const (
	FeatureRules    Feature = "rules"    // ServiceRegister, with the action Take
	FeatureMatch    Feature = "match"    // Rule.Match
	FeatureDown     Feature = "down"     // Rule.Down
	FeatureMirror   Feature = "mirror"   // the action Mirror
	FeatureTakeOver Feature = "takeover" // Registration.TakeOver
	FeatureListen   Feature = "listen"   // ServiceListen
	FeatureWatch    Feature = "watch"    // ServiceWatch
	FeatureFiles    Feature = "files"    // ServiceFiles and ServiceSocket; of an agent that was given volumes
	FeatureReaders  Feature = "readers"  // Registration.Files
	FeatureUDP      Feature = "udp"      // Port.Protocol
	FeatureProbe    Feature = "probe"    // ServiceProbe, and Captured.MSS; on Linux alone
)

// Info is what an agent tells about itself and its pod.
type Info struct {
	Version     string         `json:"version"`
	Features    []Feature      `json:"features"`
	UpSeconds   float64        `json:"upSeconds"` // since the agent listens
	Pod         string         `json:"pod"`
	PodIPs      []netip.Addr   `json:"podIPs"`
	Nameservers []netip.Addr   `json:"nameservers"`
	Search      []string       `json:"search"`
	Routes      []netip.Prefix `json:"routes"`
	Captures    []CaptureInfo  `json:"captures"`
	Readers     []Holder       `json:"readers,omitempty"` // those with no rules
	Sessions    []string       `json:"sessions"`          // the IDs of those that are reached
}

// Has reports whether the agent has a feature.
func (i Info) Has(f Feature) bool { return slices.Contains(i.Features, f) }

// maxInfo bounds what ReadInfo reads.
const maxInfo = 1 << 20

// ReadInfo reads the answer of ServiceInfo, of at most 1 MiB. Fields that it
// does not know are ignored: a newer agent has more to tell.
func ReadInfo(r io.Reader) (Info, error) {
	return readReply[Info](r, maxInfo, "what the agent says about itself")
}

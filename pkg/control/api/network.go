package api

import "net/netip"

// NetworkStatus is what connect has set up.
type NetworkStatus struct {
	Agent    AgentStatus    `json:"agent"`
	Device   string         `json:"device"`
	Services []netip.Prefix `json:"services"`
	Pods     []netip.Prefix `json:"pods"`
	// Skipped are cluster ranges that the laptop already routes elsewhere.
	Skipped []netip.Prefix `json:"skipped,omitempty"`
	Domain  string         `json:"domain"`
	DNS     netip.Addr     `json:"dns"`
	DNSMode string         `json:"dnsMode,omitempty"`
	// HelperGone reports that somebody ended the privileged helper: the network
	// works, but the next connect or quit has to clean up after the helper.
	HelperGone bool `json:"helperGone,omitempty"`
}

// Command warden is the small program the embedded cluster is built around.
// It has four parts to play:
//
//	warden init       process 1 of the cluster's process namespace, and of every pod sandbox:
//	                  it reaps orphans and ends at SIGTERM
//	warden spawn      starts a command inside given namespaces and cgroups, detached,
//	                  prints its process ID and exits
//	warden resolver   the DNS server of a laptop's office
//	warden relay      carries connections to the API server of a cluster that is elsewhere
//
// It owns no state: what is started where is decided, and recorded, by package embedded.
package main

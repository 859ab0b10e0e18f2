// Package helper lets an unprivileged session have a TUN, routes and DNS by a
// small process that runs as root, and that undoes it all when the session is
// gone, whatever ended it.
//
//	session (unprivileged)              helper (root)
//	Listen in a 0700 folder
//	Accept: peer is uid 0       <----   Serve: folder and peer are the user's
//	hello                        ---->
//	open-tun                     ---->  Host.OpenTUN
//	                            <----   name, and the TUN's descriptor
//	set-network, set-dns         ---->  checked, then Host.SetNetwork, SetDNS
//	close, or the session dies   ---->  Host.Close: everything undone
//
// A message is one line of JSON, a request has one answer, and the words above
// are all there are: no paths, no commands, no names of devices; only ranges,
// addresses and names of domains, each checked by the helper (see check.go).
// The helper never sees a kubeconfig or a token.
//
// Everything it changes is written to a journal first, by which the next
// helper, or CleanUp, undoes what a killed one has left.
//
// Run is the helper's whole process, with the resolver of pkg/dns/osdns; how the
// process gets its privileges is the command's business (see pkg/cli).
package helper

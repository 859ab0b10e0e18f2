// Package osdns makes the operating system ask our DNS server, and puts back
// what was there.
//
// A change is declared, not done: Set may be repeated, and a zero Config takes
// everything of ours away. What was there before is written to a journal
// before the first change, so that CleanUp can undo a crashed predecessor's.
// Files are restored byte for byte, in place, and only while they still hold
// what we wrote: what somebody else wrote meanwhile stays, and is reported as
// a *ChangedError.
//
// One backend a file, chosen by New from what the system looks like:
//
//	resolv.conf    /etc/resolv.conf names our server alone, which forwards
//	               what is not of the cluster (Linux)
//	resolved       systemd-resolved is told, with resolvectl, to ask our
//	               server on our link for the cluster's names (Linux)
//	resolver files /etc/resolver/DOMAIN for the cluster's domains (macOS)
//
// On Windows New returns an error wrapping errors.ErrUnsupported.
//
// The package owns neither the server nor the choice of names.
package osdns

// Package dns answers the laptop's DNS questions while it is connected: names
// of the cluster, and the addresses that belong to it, are asked of the
// cluster's own DNS; every other name is asked of the resolvers that the
// laptop had before. Neither side ever sees the other's questions.
//
// Messages are forwarded as they are, whatever their type; there is no cache,
// so that a new Service is seen at once. A question that finds no answer
// within 4 s is answered with SERVFAIL, never with silence.
//
// The package owns no sockets of the operating system's configuration: who
// asks this server is the business of package osdns.
package dns

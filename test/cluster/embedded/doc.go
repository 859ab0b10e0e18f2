// Package embedded runs a real Kubernetes cluster of two nodes on this machine,
// with no docker, no registry and no virtual machine, and the laptops that tests
// stand at.
//
// Everything of the cluster lives in namespaces of its own:
//
//	network  NAME             control plane and node1        192.0.2.1 is the API server
//	network  NAME-node2       node2                          198.51.100.2
//	network  NAME-l-LAPTOP    a laptop                       203.0.113.x, a route to 192.0.2.1 and no other
//	process, mount            one for the whole cluster, held by its process 1 ("warden init")
//	mount                     one a laptop, held by a file, with its own /etc/resolv.conf and /run
//
// So the end of process 1 is the end of every process, mount and pod of the
// cluster, by the kernel's own hand; what it leaves (network namespaces, cgroups,
// the laptops and a folder) is found again by name. [Down] needs no record of what
// happened before.
//
// The cluster outlives the process that booted it. State is kept in one folder
// (see [Options]); [Open] finds a running cluster from any process of root.
package embedded

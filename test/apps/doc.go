// Command apps is every application the end-to-end tests need in the cluster,
// in one small static binary:
//
//	apps http [-addr :8080]... [-drain 15s]   HTTP echo; see newMux for its paths
//	apps grpc [-addr :8080]                   gRPC over h2c: interop's TestService as an echo, health
//	apps tcp [-addr :8080] [-banner]          TCP echo
//	apps slowfin [-addr :8080] [-delay 3s]    answers only after the client's FIN
//	apps udp [-addr :8080]                    UDP echo
//	apps refuse                               runs, listens on nothing
//	apps call [-method M] [-bytes N] [-header K:V]... URL
//	apps load [-for 10s] [-count N] [-workers 1] [-every 0] [-fresh] [-stdin] [-trace] URL
//	apps dial HOST:PORT                       joins stdin and stdout to a TCP connection
//	apps sleep DURATION                       for preStop hooks
//	apps true                                 for exec probes
//
// The servers are told who they are by POD_NAME and VERSION, and whom to ask
// next by NEXT. On SIGTERM they stop accepting and finish what they have
// begun, for at most -drain.
package main

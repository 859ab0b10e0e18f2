// Command apps is every application the end-to-end tests need in the cluster,
// in one small static binary:
//
//	apps http [-addr :8080]... [-drain 15s]   HTTP echo; see newMux for its paths
//	apps grpc [-addr :8080]                   gRPC over h2c: interop's TestService as an echo, health
//	apps interop [-addr :8080]                gRPC's own interop server, health
//	apps tcp [-addr :8080] [-banner]          TCP echo
//	apps slowfin [-addr :8080] [-delay 3s]    answers only after the client's FIN
//	apps raw -addr :8080 -addr :9090          answers the bytes that it is told to, says which it got
//	apps udp [-addr :8080]                    UDP echo; "who ..." is answered with an api.Echo behind it
//	apps refuse                               runs, listens on nothing
//	apps call [-method M] [-bytes N] [-header K:V]... URL
//	apps load [-for 10s] [-count N] [-workers 1] [-every 0] [-fresh] [-stdin] [-trace]
//	          [-protocol http1|http2|grpc|websocket] [-id ID] URL
//	apps dial HOST:PORT                       joins stdin and stdout to a TCP connection
//	apps interop-call [-header K:V]... HOST:PORT CASE...   cases of gRPC's interop client
//	apps play HOST:PORT URL                   asks a raw application what is on stdin
//	apps held MODE...                         that mode; ends its output by NUL, and waits for the end of stdin
//	apps sleep DURATION                       for preStop hooks
//	apps true                                 for exec probes
//
// The servers are told who they are by POD_NAME and VERSION, and whom to ask
// next by NEXT. On SIGTERM they stop accepting and finish what they have
// begun, for at most -drain.
package main

package api

// Values of a tunnel.Target's Network.
const (
	// NetworkService is the Network of the agent's services; the Address is
	// one of those below.
	NetworkService = "agent"
	// NetworkIntercept is the Network of a captured connection that the agent
	// offers to a session.
	NetworkIntercept = "intercept"
	// NetworkDatagrams is that of a captured association of UDP.
	NetworkDatagrams = "intercept/udp"
)

// The agent's services.
const (
	// ServiceInfo answers with one Info as JSON and ends the flow.
	ServiceInfo = "info"
	// ServiceRegister takes a Registration and keeps it in force for as long
	// as the flow lives. When the session closes its writing side, the agent
	// ends the flow as soon as it offers no further connection. The agent also
	// ends it when another registration has taken over.
	ServiceRegister = "register"
	// ServiceListen takes a ListenRequest, answers with a ListenReply as JSON
	// and ends the flow. The captures last until the agent ends, and asking for
	// them again changes nothing. All are added or none: the refusal names the
	// port that cannot be listened on, with the reason tunnel.Conflict if it is
	// in use.
	ServiceListen = "listen"
	// ServiceProbe takes a ProbeRequest, dials, and answers with a ProbeReply
	// as JSON. The agent holds the connection, over which it sends nothing,
	// until the flow ends or 10 s have passed; then it closes both. An address
	// that agents do not dial is refused with the reason tunnel.Denied.
	ServiceProbe = "probe"
	// ServiceWatch takes a WatchRequest and answers with an Exchange as JSON for each
	// request that ends, until the flow does. Of connections that began before, and
	// that are passed on whole, it does not tell.
	ServiceWatch = "watch"
	// ServiceFiles shows the volumes of a container, at its paths, to read, and to write
	// where the agent was given them so: the flow carries SFTP version 3, in which an
	// answer may have up to 128 KiB of data.
	ServiceFiles = "files"
	// ServiceSocket is a connection to a UNIX socket in a volume; it takes a
	// SocketRequest.
	ServiceSocket = "socket"
)

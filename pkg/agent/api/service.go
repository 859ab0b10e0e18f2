package api

// Values of a tunnel.Target's Network.
const (
	// NetworkService is the Network of the agent's services; the Address is
	// one of those below.
	NetworkService = "agent"
	// NetworkIntercept is the Network of a captured connection that the agent
	// offers to a session.
	NetworkIntercept = "intercept"
)

// The agent's services.
const (
	// ServiceInfo answers with one Info as JSON and ends the flow.
	ServiceInfo = "info"
	// ServiceIntercept takes an InterceptRequest and holds it for as long as
	// the flow lives.
	ServiceIntercept = "intercept"
)

package api

// The agent as its pod's spec shows it.
const (
	// ContainerName is the name of the agent's container. A container is an
	// agent if it has this name and the variable EnvKey.
	ContainerName = "tele-agent"
	// Binary is the path of the agent's program in its image.
	Binary = "/tele-agent"

	EnvKey   = "TELE_AGENT_KEY" // the tunnel's key, as ParseKey reads it
	EnvPod   = "TELE_POD_NAME"
	EnvPodIP = "TELE_POD_IP" // the pod's addresses, as ParseAddrs reads them

	// DefaultControlPort is the TCP port on the pod's loopback that sessions
	// reach the agent at.
	DefaultControlPort = 15871
)

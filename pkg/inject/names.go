package inject

import "time"

// Names that appear in the cluster.
const (
	// ContainerName is the sidecar's name. A container is taken for ours when it
	// has this name and a variable EnvKey.
	ContainerName = "tele-agent"
	// AnnotationUndo holds the Record of a changed object.
	AnnotationUndo = "kubectl-tele.github.io/undo"
	// AnnotationOwner holds the Owner of an object that is ours alone.
	AnnotationOwner = "kubectl-tele.github.io/owner"
	// LabelSession names the session that made an object.
	LabelSession = "kubectl-tele.github.io/session"
	// LabelName and AppName mark objects that are ours alone.
	LabelName = "app.kubernetes.io/name"
	AppName   = "kubectl-tele-agent"
	// FieldManager is who the API server is told changes a field.
	FieldManager = "kubectl-tele"
)

// The agent's own interface: variables, program, and port (as in pkg/agent,
// which this package does not import).
const (
	EnvKey             = "TELE_AGENT_KEY" // 64 hexadecimal digits
	EnvPod             = "TELE_POD_NAME"
	EnvPodIP           = "TELE_POD_IP" // all addresses of the pod, separated by commas
	Binary             = "/tele-agent"
	DefaultControlPort = 15871
	// FirstListenPort is where the search for a free port for a capture begins.
	FirstListenPort = 15900
	// KeyBytes is the length of an agent's key.
	KeyBytes = 32
	// AgentUser is the uid of the agent's image.
	AgentUser = 65532
	// DefaultIdleExit is resume-timeout and a minute.
	DefaultIdleExit = 11 * time.Minute
)

package inject

import "time"

// Names that appear in the cluster.
const (
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

// What an agent's container is made of, beside what pkg/agent/api names.
const (
	// FirstListenPort is where the search for a free port for a capture begins.
	FirstListenPort = 15900
	// AgentUser is the uid of the agent's image.
	AgentUser = 65532
	// DefaultIdleExit is resume-timeout and a minute.
	DefaultIdleExit = 11 * time.Minute
)

package api

// InterceptState is where an intercept stands.
//
//	starting -> active <-> degraded -> leaving
type InterceptState string

// The states of an intercept.
const (
	// Starting: the workload is being changed or agents are being reached.
	Starting InterceptState = "starting"
	// Active: every agent of the workload sends its traffic here.
	Active InterceptState = "active"
	// Degraded: at least one agent does not; its traffic goes to the app.
	Degraded InterceptState = "degraded"
	// Leaving: the traffic is being given back to the app.
	Leaving InterceptState = "leaving"
)

// InterceptStatus is one intercept of a session.
type InterceptStatus struct {
	ID        string   `json:"id"`
	Workload  string   `json:"workload"` // KIND/NAME, such as deployment/store
	Namespace string   `json:"namespace"`
	Container string   `json:"container"`
	Port      uint16   `json:"port"`               // 0: no traffic is taken, the files in Dir alone are shown
	Protocol  string   `json:"protocol,omitempty"` // udp; "" is TCP
	Services  []string `json:"services"`
	Inject    string   `json:"inject"`
	Capture   []string `json:"capture"`
	Handler   string   `json:"handler"`
	// Match spells which requests are meant; "" is all traffic.
	Match string `json:"match,omitempty"`
	// Mirror says that the handler gets copies, and the app answers.
	Mirror bool `json:"mirror,omitempty"`
	// Refuse says that nobody answers while the handler does not.
	Refuse bool `json:"refuse,omitempty"`
	// Dir is where the container's files are shown, or copies of them are; "" is nowhere.
	Dir string `json:"dir,omitempty"`
	// Shortened counts the connections of this machine to the Services that went to the
	// handler at once, and not through the cluster and back.
	Shortened int64 `json:"shortened,omitempty"`
	// HandlerError is why the last connection did not reach the handler. The app had
	// it, unless Refuse or Mirror is set.
	HandlerError string `json:"handlerError,omitempty"`

	State  InterceptState `json:"state"`
	Agents []AgentStatus  `json:"agents"`
	Owner  Owner          `json:"owner"`
	// Notice is what others did to the workload meanwhile.
	Notice string `json:"notice,omitempty"`
}

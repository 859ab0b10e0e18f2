package api

// Condition is one thing that a request must have to be intercepted. The agent's
// words say what it can be: see pkg/agent/api.
type Condition struct {
	On    string   `json:"on"`
	Name  string   `json:"name,omitempty"`
	Test  string   `json:"test"`
	Value string   `json:"value,omitempty"`
	Any   []string `json:"any,omitempty"`
}

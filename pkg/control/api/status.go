package api

import "time"

// Status is everything a session says about itself.
type Status struct {
	ID       string `json:"id"`
	Identity `json:",inline"`
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`
	Log      string    `json:"log,omitempty"`
	// Network is nil in a session that only intercepts.
	Network    *NetworkStatus    `json:"network,omitempty"`
	Intercepts []InterceptStatus `json:"intercepts"`
}

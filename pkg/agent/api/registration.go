package api

import "time"

// Owner tells whose intercept it is.
type Owner struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	Session string    `json:"session"`
	Since   time.Time `json:"since"`
}

// InterceptRequest asks for the new connections of a captured port.
type InterceptRequest struct {
	ID    string `json:"id"`
	Port  uint16 `json:"port"` // the app's
	Owner Owner  `json:"owner"`
}

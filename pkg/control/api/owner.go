package api

import "time"

// Owner says whose intercept it is.
type Owner struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	Session string    `json:"session"`
	Since   time.Time `json:"since"`
}

package api

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Owner tells whose intercept it is.
type Owner struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	Session string    `json:"session"`
	Since   time.Time `json:"since"`
}

// Registration asks an agent for traffic of captured ports: it is what one
// intercept is to one agent. It is in force as a whole or not at all, for as
// long as its flow lives. A tunnel can carry several.
type Registration struct {
	// ID names the registration, and is the Address of the flows that the
	// agent opens for it. A session that comes again with the ID takes over
	// from its former self.
	ID    string `json:"id"`
	Owner Owner  `json:"owner"`
	Rules []Rule `json:"rules"`
	// TakeOver ends registrations that stand in the way of this one and whose
	// session is not reached. Without it only those of the same user and host end.
	// An agent without FeatureTakeOver refuses it.
	TakeOver bool `json:"takeOver,omitempty"`
	// Files is that the session is there for the sake of files, be it for them alone: then
	// there are no Rules. An agent without FeatureReaders refuses it.
	Files bool `json:"files,omitempty"`
}

// Rule says what becomes of the traffic of one port of the app.
type Rule struct {
	Port          // the app's
	Action Action `json:"action"`
	// Match says which requests are meant; none: all traffic, whatever it is.
	// An agent without FeatureMatch refuses it, and every agent for a port of UDP.
	Match []Condition `json:"match,omitempty"`
	// Down says who answers what the session does not accept while it is reached:
	// its handler may not listen. "" is the app. An agent without FeatureDown refuses
	// another.
	Down Down `json:"down,omitempty"`
}

// String says what the rule does, to which port's traffic.
func (r Rule) String() string {
	words := []string{string(r.Action), r.Port.String()}
	for _, c := range r.Match {
		words = append(words, c.String())
	}
	return strings.Join(words, " ")
}

// Down is what becomes of traffic that a live session does not accept.
type Down string

// Refuse answers requests with an error, resets other connections and drops datagrams.
const Refuse Down = "refuse"

// Action is what a rule does with the traffic that it is about.
type Action string

// The actions.
const (
	// Take offers new connections and associations to the session, or with a Match the
	// requests of all connections; what it does not accept reaches the app.
	Take Action = "take"
	// Mirror offers copies of what clients send, and drops what is answered. Who
	// answers the client does not wait for it, and what cannot be delivered is
	// dropped and counted. An agent without FeatureMirror refuses it.
	Mirror Action = "mirror"
)

// ParseRegistration reads a Registration from JSON and validates it. It
// refuses fields and actions that it does not know: they are a newer session's,
// and without them the registration would take more than was meant.
func ParseRegistration(data []byte) (Registration, error) {
	var r Registration
	err := decodeStrictly(data, &r)
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return Registration{}, fmt.Errorf("registration: %w", err)
	}
	return r, nil
}

// Validate returns an error unless the registration has an ID, and a rule or asks for
// files, and each rule has a port of its own and a known action: Take all, for a port of
// UDP.
func (r Registration) Validate() error {
	switch {
	case r.ID == "":
		return errors.New("no ID")
	case len(r.Rules) == 0 && !r.Files:
		return errors.New("no rules")
	}
	seen := map[Port]bool{}
	for _, rule := range r.Rules {
		if err := rule.validate("rule"); err != nil {
			return err
		}
		switch {
		case rule.Action != Take && rule.Action != Mirror:
			return fmt.Errorf("unknown action %q for port %s", rule.Action, rule.Port)
		case rule.Protocol == UDP && (rule.Action != Take || len(rule.Match) > 0):
			return fmt.Errorf("port %s: datagrams are taken all, or none", rule.Port)
		case rule.Down != "" && rule.Down != Refuse:
			return fmt.Errorf("unknown choice %q for port %s while the handler is down", rule.Down, rule.Port)
		case seen[rule.Port]:
			return fmt.Errorf("two rules for port %s", rule.Port)
		}
		if err := ValidateConditions(rule.Match); err != nil {
			return err
		}
		seen[rule.Port] = true
	}
	return nil
}

// Holder tells which registration has a rule for a port, or keeps an agent for its files.
type Holder struct {
	ID    string      `json:"id"`
	Owner Owner       `json:"owner"`
	Match []Condition `json:"match,omitempty"`
	// Taken counts the connections, or with a Match the requests, that the
	// session has taken.
	Taken int64 `json:"taken,omitempty"`
	// Mirror says that they are copies, and Dropped how many of them were cut or
	// not sent at all.
	Mirror  bool  `json:"mirror,omitempty"`
	Dropped int64 `json:"dropped,omitempty"`
	// LostSeconds is since when the session is not reached: the traffic goes to
	// the app until it comes back. 0 while it is reached.
	LostSeconds float64 `json:"lostSeconds,omitempty"`
}

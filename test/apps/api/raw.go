package api

import "time"

// ConversationLimit bounds a conversation: nothing that it waits for takes as long.
const ConversationLimit = 20 * time.Second

// Conversation is what two sides of a TCP connection say to each other, byte for
// byte. The raw application plays the server in it, `apps play` the client.
type Conversation struct {
	Name  string `json:"name"`
	Turns []Turn `json:"turns"`
}

// Turn is what one side does when it has received all that the other side sends in
// the turns before, its FIN too. After the last turn each side that has not closed its side
// does so, the client first, and reads to the end.
type Turn struct {
	App   bool   `json:"app,omitempty"` // the app's turn, else the client's
	Send  []byte `json:"send,omitempty"`
	After int    `json:"after,omitempty"` // if not 0: has received this many bytes, rather than all
	FIN   bool   `json:"fin,omitempty"`   // then closes its side
	Reset bool   `json:"reset,omitempty"` // then resets the connection
}

// How a side of a conversation ended.
const (
	EndFIN   = "FIN"      // the other side has closed its side
	EndReset = "reset"    // the connection was reset
	EndOwn   = "own"      // this side has reset it
	EndLimit = "too late" // the connection was still open after ConversationLimit
)

// Side is what one side of a conversation received.
type Side struct {
	Got []byte `json:"got"`
	End string `json:"end"` // one of those above, or another error
}

// Played is what became of a conversation.
type Played struct {
	Name   string `json:"name"`
	Client Side   `json:"client"`
	App    Side   `json:"app"`
	Others int    `json:"others,omitempty"` // connections that the app accepted beside the client's
	Error  string `json:"error,omitempty"`  // why it was not played
}

// Of returns what both sides receive when nothing on the way changes it.
func (c Conversation) Of() (toClient, toApp []byte) {
	for _, t := range c.Turns {
		if t.App {
			toClient = append(toClient, t.Send...)
		} else {
			toApp = append(toApp, t.Send...)
		}
	}
	return toClient, toApp
}

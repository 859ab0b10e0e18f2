package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	agentapi "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// NewToken returns n random bytes in hexadecimal digits.
func NewToken(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a random token: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// NewKey returns the key for one new agent.
func NewKey() ([]byte, error) {
	key := make([]byte, agentapi.KeyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make the agent's key: %w", err)
	}
	return key, nil
}

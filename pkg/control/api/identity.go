package api

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Identity tells one session of this machine from another: one context, one
// namespace, one user.
type Identity struct {
	Context   string `json:"context"`
	Namespace string `json:"namespace"`
	Server    string `json:"server"`
	// User is the kubeconfig's name for the credentials, or the impersonated
	// user.
	User string `json:"user"`
}

// ID returns ten hexadecimal digits that stand for the identity. They are few
// because they are part of unix socket paths, which have 104 bytes on macOS.
func (i Identity) ID() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{i.Context, i.Namespace, i.Server, i.User}, "\x00")))
	return hex.EncodeToString(sum[:5])
}

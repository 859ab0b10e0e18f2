// Package datagram is what sockets of UDP need that package net does not have. It imports
// nothing of this module.
package datagram

import "sync"

// Max is the largest payload of UDP over IPv4, in bytes.
const Max = 65507

var buffers = sync.Pool{New: func() any { b := make([]byte, Max); return &b }}

package api

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// KeyBytes is the length of a tunnel's key.
const KeyBytes = 32

// ParseKey reads a key, which is written as 64 hexadecimal digits. Its error
// does not show the key.
func ParseKey(s string) ([]byte, error) {
	key, err := hex.DecodeString(s)
	if err != nil || len(key) != KeyBytes {
		return nil, fmt.Errorf("key is not %d hexadecimal digits", 2*KeyBytes)
	}
	return key, nil
}

// ParseAddrs reads addresses with commas between them, as a pod's podIPs are
// written. Spaces and empty parts are left out.
func ParseAddrs(s string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		a, err := netip.ParseAddr(part)
		if err != nil {
			return nil, fmt.Errorf("pod address: %w", err)
		}
		addrs = append(addrs, a.Unmap())
	}
	return addrs, nil
}

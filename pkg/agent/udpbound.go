package agent

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
)

// udpBound reports whether something in the pod listens on a port of UDP, since a port of
// UDP cannot be asked; known is false where the kernel does not tell.
func udpBound(port uint16) (bound, known bool) {
	for _, path := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		known = true
		bound = bound || hasUDPPort(f, port)
		_ = f.Close()
	}
	return bound, known
}

// hasUDPPort looks for an unconnected socket of the port in a table as /proc/net/udp is.
func hasUDPPort(table io.Reader, port uint16) bool {
	for s := bufio.NewScanner(table); s.Scan(); {
		// sl local_address rem_address st ...; addresses are HEX:PORT
		f := strings.Fields(s.Text())
		if len(f) < 4 {
			continue
		}
		_, local, _ := strings.Cut(f[1], ":")
		_, remote, _ := strings.Cut(f[2], ":")
		n, err := strconv.ParseUint(local, 16, 16)
		if err == nil && uint16(n) == port && remote == "0000" {
			return true
		}
	}
	return false
}

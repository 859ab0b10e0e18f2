package osdns

import (
	"bytes"
	"fmt"
	"path"
)

const resolverDirPath = "/etc/resolver"

// resolverDir is the backend for macOS: a file of /etc/resolver says whom to
// ask for the names below a domain. It has no search list of its own, so
// short names need the domain. Upstream reads the resolv.conf that macOS
// keeps for programs like us, in which our files do not show.
type resolverDir struct{ *system }

func (r resolverDir) Set(dev string, c Config) error {
	if err := check(dev, c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Empty() {
		return r.clear()
	}
	var wants []want
	for _, domain := range c.Domains {
		file := path.Join(resolverDirPath, domain)
		wants = append(wants, want{file, func(before []byte) ([]byte, error) {
			if before != nil {
				return nil, &hintError{
					fmt.Errorf("%s exists and is not ours", file),
					"another program answers for this domain: end it, or remove the file",
				}
			}
			return renderResolver(c), nil
		}})
	}
	err := r.setFiles(dev, wants)
	r.flushDarwin()
	return err
}

func renderResolver(c Config) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString("# `kubectl tele quit` removes this file; after a crash the next `kubectl tele connect` does.\n")
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.Bytes()
}

// flushDarwin makes the system forget answers; that it cannot is no harm for long.
func (s *system) flushDarwin() {
	_, _ = s.Run("dscacheutil", "-flushcache")
	_, _ = s.Run("killall", "-HUP", "mDNSResponder")
}

package control

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// versionHeader is in every request and every response: the version of the
// control protocol that its sender speaks, api.Version.
const versionHeader = "Tele-Control-Version"

// VersionError reports that the running session and this program speak different
// versions of the control protocol.
type VersionError struct {
	// Session and Command are their versions, 0 for those from before versions
	// were exchanged.
	Session, Command int
}

// Error states both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the running session is of another version of kubectl tele than this command (control protocol %d, not %d)", e.Session, e.Command)
}

// Hints names the way to have one version.
func (e *VersionError) Hints() []string {
	quit := "kubectl tele quit --force ends the session; the next command starts one of its own version"
	if e.Session > e.Command {
		return []string{"upgrade this plugin: kubectl krew upgrade tele", quit}
	}
	return []string{quit}
}

// setVersion writes this program's version.
func setVersion(h http.Header) { h.Set(versionHeader, strconv.Itoa(api.Version)) }

// versionOf returns the version in a request or a response; 0 if it has none
// that can be read.
func versionOf(h http.Header) int {
	version, err := strconv.Atoi(h.Get(versionHeader))
	if err != nil {
		return 0
	}
	return version
}

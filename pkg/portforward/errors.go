package portforward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RemoteError is what the pod's node said on the error stream: the connection
// reached the node, and failed there.
type RemoteError struct {
	Addr    Addr
	Message string
}

func (e *RemoteError) Error() string { return fmt.Sprintf("%s: %s", e.Addr, e.Message) }

// Is makes errors.Is(err, syscall.ECONNREFUSED) true when nobody listens on
// the port inside the pod.
func (e *RemoteError) Is(target error) bool {
	return target == syscall.ECONNREFUSED && strings.Contains(e.Message, "connection refused")
}

// errLost is wrapped by the error of a connection that ended without either
// end saying so.
var errLost = fmt.Errorf("lost connection to the pod: %w", io.ErrUnexpectedEOF)

// upgradeError is an HTTP answer that is no upgrade and no word of the API
// server on the merits either.
type upgradeError struct {
	protocol Protocol
	reason   string
}

func (e *upgradeError) Error() string {
	return fmt.Sprintf("upgrade to %s refused: %s", e.protocol, e.reason)
}

const (
	errorBodyLimit = 64 << 10
	errorTextLimit = 200
)

// refusal turns an HTTP answer other than a wanted upgrade into an error: a
// *apierrors.StatusError where the API server judged the request itself, an
// *upgradeError where the upgrade did not get through. It reads the body.
func refusal(p Protocol, resp *http.Response, a Addr) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	if err != nil {
		body = nil
	}
	var status metav1.Status
	isStatus := json.Unmarshal(body, &status) == nil && status.Kind == "Status" && status.Status == metav1.StatusFailure
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		if !isStatus {
			return apierrors.NewGenericServerResponse(resp.StatusCode, strings.ToLower(resp.Request.Method),
				corev1.Resource("pods/portforward"), a.Pod, text(body), 0, true)
		}
		return &apierrors.StatusError{ErrStatus: status}
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		// Also what an API server answers when a proxy has removed the
		// upgrade headers.
		if isStatus {
			return &upgradeError{p, status.Message}
		}
	default:
		if isStatus {
			return &apierrors.StatusError{ErrStatus: status}
		}
	}
	if t := text(body); t != "" {
		return &upgradeError{p, resp.Status + ": " + t}
	}
	return &upgradeError{p, resp.Status}
}

// text makes one line of what may be a page of HTML.
func text(body []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "?")), " ")
	if len(s) > errorTextLimit {
		s = strings.ToValidUTF8(s[:errorTextLimit], "") + "..."
	}
	return s
}

// temporary tells errors that a later deadline can mend from those that end
// a connection.
func temporary(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

package intercept

import (
	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
)

// logRequests writes a line into the session's log for each request that the handler
// answered, until stop is called.
func (i *Intercept) logRequests() (stop func()) {
	if !i.spec.LogRequests {
		return func() {}
	}
	stop, err := i.agents.Watch(agent.WatchRequest{Port: i.target.port.Number}, cluster.WatchHandler{
		Exchange: func(e agent.Exchange) {
			switch {
			case e.ID != i.id:
			case e.By == nil:
				i.log.Warn("the app answered in place of the handler", "method", e.Method, "host", e.Host, "path", e.Path, "status", e.Status, "reason", e.Instead)
			default:
				i.log.Info("request", "method", e.Method, "host", e.Host, "path", e.Path, "status", e.Status, "grpc", e.GRPC,
					"millis", e.Millis, "sent", e.Sent, "got", e.Got, "pod", e.Pod, "failure", e.Failure)
			}
		},
		Blind: func(pod string, err error) {
			i.log.Warn("requests are not logged", "pod", pod, "err", err)
		},
	})
	if err != nil {
		i.log.Warn("requests are not logged", "err", err)
		return func() {}
	}
	return stop
}

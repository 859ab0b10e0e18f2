package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/session"
	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

// factory gives commands what kubectl's own flags select.
type factory struct {
	config *genericclioptions.ConfigFlags
	genericiooptions.IOStreams
}

func newFactory(config *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *factory {
	return &factory{config: config, IOStreams: streams}
}

// place is the cluster, namespace and user that the flags select.
type place struct {
	session.Identity
	rest *rest.Config
}

// noServer is where cli-runtime looks for a cluster that nobody has named.
const noServer = "http://localhost:8080"

// place reads the kubeconfig; it does not talk to the cluster.
func (f *factory) place() (*place, error) {
	loader := f.config.ToRawKubeConfigLoader()
	restConfig, err := f.config.ToRESTConfig()
	if err != nil {
		return nil, kubeconfigError(err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, kubeconfigError(err)
	}
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, kubeconfigError(err)
	}
	if restConfig.Host == noServer && deref(f.config.APIServer) == "" && clientcmdapi.IsConfigEmpty(&raw) {
		return nil, kubeconfigError(clientcmd.ErrEmptyConfig)
	}
	id := session.Identity{Context: raw.CurrentContext, Namespace: namespace, Server: restConfig.Host}
	if c := deref(f.config.Context); c != "" {
		id.Context = c
	}
	if c := raw.Contexts[id.Context]; c != nil {
		id.User = c.AuthInfo
	}
	if u := deref(f.config.AuthInfoName); u != "" {
		id.User = u
	}
	if as := restConfig.Impersonate.UserName; as != "" {
		id.User = as
	}
	return &place{Identity: id, rest: restConfig}, nil
}

func kubeconfigError(err error) error {
	if clientcmd.IsEmptyConfig(err) || errors.Is(err, os.ErrNotExist) {
		return hint.With(fmt.Errorf("no cluster is configured: %w", err),
			"set KUBECONFIG or --kubeconfig to a kubeconfig file",
			"kubectl config view shows what kubectl sees")
	}
	return hint.With(fmt.Errorf("read the kubeconfig: %w", err), "kubectl config get-contexts lists what can be chosen with --context")
}

// sessionConfig is the configuration of the session for this place.
func (p *place) sessionConfig() (session.Config, error) {
	dir, err := session.Dir(p.ID())
	if err != nil {
		return session.Config{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	name := p.User
	if name == "" {
		name = "unknown"
	}
	if u, err := user.Current(); err == nil && u.Username != "root" && u.Username != name {
		name += " (" + filepath.Base(strings.ReplaceAll(u.Username, `\`, "/")) + ")"
	}
	return session.Config{
		Identity: p.Identity, REST: p.rest, Dir: dir,
		Owner: api.Owner{User: name, Host: host, Since: time.Now().UTC().Truncate(time.Second)},
	}, nil
}

// configArgs repeats kubectl's flags for the background session.
func (f *factory) configArgs(cmd *cobra.Command) []string {
	var args []string
	for flag := range visited(cmd.InheritedFlags()) {
		args = append(args, "--"+flag.Name+"="+flagValue(flag))
	}
	return args
}

// client returns a client for the running session that the flags mean: that of
// this place, else the only one there is.
func (f *factory) client(ctx context.Context) (*session.Client, session.Status, error) {
	if p, err := f.place(); err == nil {
		dir, err := session.Dir(p.ID())
		if err != nil {
			return nil, session.Status{}, err
		}
		c := session.NewClient(dir)
		status, err := askSession(ctx, c, p.ID())
		if err == nil || !errors.Is(err, session.ErrNotRunning) {
			return c, status, err
		}
	}
	running, err := runningSessions(ctx)
	switch {
	case err != nil:
		return nil, session.Status{}, err
	case len(running) == 1 && !f.chosen():
		return running[0].client, running[0].status, running[0].silent
	case len(running) == 0:
		return nil, session.Status{}, hint.With(session.ErrNotRunning, "kubectl tele connect", "kubectl tele intercept")
	}
	return nil, session.Status{}, hint.With(fmt.Errorf("none of the %d running sessions is for this context and namespace", len(running)),
		"kubectl tele status lists them", "choose with --context and --namespace")
}

// chosen says whether the user named a context or namespace.
func (f *factory) chosen() bool {
	return deref(f.config.Context) != "" || deref(f.config.Namespace) != "" || deref(f.config.KubeConfig) != ""
}

// running is a session whose process is there.
type running struct {
	client *session.Client
	status session.Status // the ID alone if it is silent
	silent error          // why it does not answer; nil if it does
}

// statusLimit bounds asking one session; a frozen one must not hold up others.
const statusLimit = 3 * time.Second

// askSession asks a session for its status. One that is there and silent is an
// error of its own.
func askSession(ctx context.Context, c *session.Client, id string) (session.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, statusLimit, fmt.Errorf("it does not answer within %s", statusLimit))
	defer cancel()
	status, err := c.Status(ctx)
	if err != nil && !errors.Is(err, session.ErrNotRunning) {
		err = hint.With(fmt.Errorf("ask session %s: %w", id, err), "kubectl tele quit --force ends it")
	}
	return status, err
}

func runningSessions(ctx context.Context) ([]running, error) {
	ids, err := session.IDs()
	if err != nil {
		return nil, err
	}
	var out []running
	for _, id := range ids {
		dir, err := session.Dir(id)
		if err != nil {
			return nil, err
		}
		c := session.NewClient(dir)
		status, err := askSession(ctx, c, id)
		switch {
		case errors.Is(err, session.ErrNotRunning):
		case err != nil:
			out = append(out, running{client: c, status: session.Status{ID: id}, silent: err})
		default:
			out = append(out, running{client: c, status: status})
		}
	}
	return out, nil
}

// agentImage is the agent's image: flag, environment, this build's own.
func agentImage(flag string) string {
	if flag != "" {
		return flag
	}
	if v := os.Getenv("TELE_AGENT_IMAGE"); v != "" {
		return v
	}
	return version.AgentImage()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// client returns a client for the cluster of this place.
func (p *place) client() (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(p.rest)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", p.Server, err)
	}
	return client, nil
}

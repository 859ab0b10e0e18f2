package cli

import (
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

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
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
	api.Identity
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
	id := api.Identity{Context: raw.CurrentContext, Namespace: namespace, Server: restConfig.Host}
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
	dir, err := control.Dir(p.ID())
	if err != nil {
		return session.Config{}, err
	}
	return session.Config{
		Identity: p.Identity, REST: p.rest, Dir: dir,
		Owner: p.owner(),
	}, nil
}

// owner is who this is to agents and colleagues.
func (p *place) owner() agent.Owner {
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
	return agent.Owner{User: name, Host: host, Since: time.Now().UTC().Truncate(time.Second)}
}

// configArgs repeats kubectl's flags for the background session.
func (f *factory) configArgs(cmd *cobra.Command) []string {
	var args []string
	for flag := range visited(cmd.InheritedFlags()) {
		args = append(args, "--"+flag.Name+"="+flagValue(flag))
	}
	return args
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

// client returns a client of the API server of this place.
func (p *place) client() (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(p.rest)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", p.Server, err)
	}
	return client, nil
}

// cluster returns what needs the cluster alone and no session.
func (f *factory) cluster() (*cluster.Cluster, error) {
	p, err := f.place()
	if err != nil {
		return nil, err
	}
	return cluster.New(cluster.Config{REST: p.rest, Namespace: p.Namespace, Owner: p.owner()})
}

//go:build linux

package rig

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

// Relay puts a bad network between the laptop and the API server: from now on
// the kubeconfigs of commands lead to the relay. Close it, and before the
// laptop. It must not be called while commands run.
func (d *Desk) Relay(ctx context.Context, link netsim.Link) (*netsim.Relay, error) {
	listener, err := d.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen at laptop %s: %w", d.Name(), err)
	}
	server, err := d.relayUsers(listener.Addr().String())
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	dial := func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, "tcp", server) }
	return netsim.New(listener, dial, link), nil
}

// relayUsers writes kubeconfigs that lead to the relay, and returns where the
// API server is.
func (d *Desk) relayUsers(relay string) (server string, err error) {
	dir := filepath.Join(d.Dir(), "relay")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for _, user := range []string{"admin", "alice", "bob"} {
		config, err := clientcmd.LoadFromFile(d.rig.Cluster.Kubeconfig(user))
		if err != nil {
			return "", fmt.Errorf("read kubeconfig of %s: %w", user, err)
		}
		for _, cluster := range config.Clusters {
			u, err := url.Parse(cluster.Server)
			if err != nil {
				return "", fmt.Errorf("kubeconfig of %s: server %q: %w", user, cluster.Server, err)
			}
			if cluster.TLSServerName == "" {
				cluster.TLSServerName = u.Hostname()
			}
			server, u.Host = u.Host, relay
			cluster.Server = u.String()
		}
		if err := clientcmd.WriteToFile(*config, filepath.Join(dir, user)); err != nil {
			return "", fmt.Errorf("write kubeconfig of %s: %w", user, err)
		}
	}
	d.kubeconfigs = dir
	return server, nil
}

// Command is embedded.Laptop's, by the relay if there is one.
func (d *Desk) Command(ctx context.Context, user string, argv ...string) *exec.Cmd {
	cmd := d.Laptop.Command(ctx, user, argv...)
	if d.kubeconfigs != "" && user != "" {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+filepath.Join(d.kubeconfigs, user))
	}
	return cmd
}

// RESTConfig is what a program at the laptop has, for this process: it dials
// from there. It has no rate limit.
func (d *Desk) RESTConfig() (*rest.Config, error) {
	path := d.rig.Cluster.Kubeconfig(d.User)
	if d.kubeconfigs != "" {
		path = filepath.Join(d.kubeconfigs, d.User)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of %s: %w", d.User, err)
	}
	config.Dial = d.Dial
	config.QPS = -1
	return config, nil
}

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// accountsNamespace holds the ServiceAccounts alice and bob of a foreign
// cluster. It is none of the three they work in: who may edit there may
// become any ServiceAccount that lives there.
const accountsNamespace = "tele-test-users"

// tokenLifetime is longer than any test run; clusters may give less.
const tokenLifetime = 24 * time.Hour

// foreignLimit bounds the preparation of a foreign cluster; the deletion of
// namespaces of an earlier run takes the most of it.
const foreignLimit = 2 * time.Minute

var errTerminating = errors.New("is still being deleted")

func isTerminating(err error) bool { return errors.Is(err, errTerminating) }

// makeForeignUsers writes admin's kubeconfig, makes namespaces, accounts and
// bindings, and writes kubeconfigs with fresh tokens for alice and bob.
func (c *Cluster) makeForeignUsers(ctx context.Context, kubeconfig string) error {
	ctx, cancel := context.WithTimeout(ctx, foreignLimit)
	defer cancel()
	config, err := relayed(kubeconfig)
	if err != nil {
		return err
	}
	if err := clientcmd.WriteToFile(*config, c.Kubeconfig("admin")); err != nil {
		return err
	}
	admin, err := c.client("admin")
	if err != nil {
		return err
	}
	for _, name := range []string{"shop", "open", "other", accountsNamespace} {
		one := func(ctx context.Context) error { return c.makeNamespace(ctx, admin, name) }
		if err := retry(ctx, "namespace "+name, one, isTerminating); err != nil {
			return err
		}
	}
	const form = "{kind: ServiceAccount, name: %s, namespace: " + accountsNamespace + "}"
	err = c.apply(ctx, "namespaces.yaml", subjects{
		Label: testNamespaceLabel, Prefix: "foreign-", Alice: fmt.Sprintf(form, "alice"), Bob: fmt.Sprintf(form, "bob"),
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"alice", "bob"} {
		if err := c.makeAccount(ctx, admin, name, config); err != nil {
			return err
		}
	}
	return nil
}

// relayed is a kubeconfig that stands alone and leads to the relay.
func relayed(file string) (*clientcmdapi.Config, error) {
	config, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, err
	}
	if err := clientcmdapi.MinifyConfig(config); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	for _, cluster := range config.Clusters {
		u, err := url.Parse(cluster.Server)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: server %q: %w", file, cluster.Server, err)
		}
		if cluster.TLSServerName == "" {
			cluster.TLSServerName = u.Hostname()
		}
		u.Host = net.JoinHostPort(apiAddress, apiPort)
		cluster.Server, cluster.ProxyURL = u.String(), ""
	}
	return config, nil
}

// makeNamespace makes a namespace, or takes one that tests made before.
func (c *Cluster) makeNamespace(ctx context.Context, admin kubernetes.Interface, name string) error {
	found, err := admin.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		if found.Labels[testNamespaceLabel] == "" {
			return fmt.Errorf("namespace %s exists and is not the tests'\nhint: if tests may use it, label it %s=true", name, testNamespaceLabel)
		}
		if found.DeletionTimestamp != nil {
			return fmt.Errorf("namespace %s: %w", name, errTerminating)
		}
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return err
	}
	err = c.update(func(s *state) {
		if !slices.Contains(s.Foreign.Made, name) {
			s.Foreign.Made = append(s.Foreign.Made, name)
		}
	})
	if err != nil {
		return err
	}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{testNamespaceLabel: "true"}}}
	_, err = admin.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{})
	return err
}

// makeAccount makes a ServiceAccount and writes a kubeconfig with a token of it.
func (c *Cluster) makeAccount(ctx context.Context, admin kubernetes.Interface, name string, like *clientcmdapi.Config) error {
	accounts := admin.CoreV1().ServiceAccounts(accountsNamespace)
	_, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	seconds := int64(tokenLifetime / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	token, err := accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token for %s: %w", name, err)
	}
	config := like.DeepCopy()
	current := config.Contexts[config.CurrentContext]
	config.AuthInfos = map[string]*clientcmdapi.AuthInfo{name: {Token: token.Status.Token}}
	config.Contexts = map[string]*clientcmdapi.Context{name: {Cluster: current.Cluster, AuthInfo: name, Namespace: "shop"}}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, c.Kubeconfig(name))
}

// deleteNamespaces deletes and does not wait: finalizers are the cluster's business.
func (c *Cluster) deleteNamespaces(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	admin, err := c.client("admin")
	if err != nil {
		return err
	}
	var failed error
	for _, name := range names {
		if err := admin.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

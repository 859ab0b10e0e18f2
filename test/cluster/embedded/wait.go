package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// pollInterval is short: everything polled is on this machine.
const pollInterval = 50 * time.Millisecond

// wait calls f until it succeeds, ctx ends, or failed (may be nil) says that
// waiting is in vain.
func wait(ctx context.Context, what string, f func(context.Context) error, failed func() error) error {
	var last error // of an attempt that was not cut short
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := f(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if failed != nil {
			if why := failed(); why != nil {
				return fmt.Errorf("wait for %s: %w", what, why)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, context.Cause(ctx), last)
		case <-time.After(pollInterval):
		}
	}
}

// retry calls f until it succeeds or fails with an error of no passing kind.
func retry(ctx context.Context, what string, f func(context.Context) error, passing ...func(error) bool) error {
	var last error
	err := wait(ctx, what, func(ctx context.Context) error { last = f(ctx); return last }, func() error {
		if slices.ContainsFunc(passing, func(is func(error) bool) bool { return is(last) }) || errors.Is(last, context.DeadlineExceeded) {
			return nil
		}
		return last
	})
	return err
}

func apiReady(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// dnsAnswers asks the cluster's DNS for a Service, as a pod would.
func (c *Cluster) dnsAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := c.Dial(ctx, "udp", net.JoinHostPort(dnsAddress, "53"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	query := new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", dns.TypeA)
	client := &dns.Client{Timeout: time.Second}
	reply, _, err := client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	if err != nil {
		return err
	}
	if len(reply.Answer) == 0 {
		return fmt.Errorf("DNS has no address for %s: %s", query.Question[0].Name, dns.RcodeToString[reply.Rcode])
	}
	return nil
}

// editWorks waits for the ClusterRole edit, which the controller manager
// assembles: before, nobody has its rights.
func editWorks(ctx context.Context, alice kubernetes.Interface) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "shop", Verb: "create", Resource: "pods", Subresource: "portforward"},
	}}
	answer, err := alice.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if !answer.Status.Allowed {
		return errors.New("alice may not yet do what the ClusterRole edit allows")
	}
	return nil
}

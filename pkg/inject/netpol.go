package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// policyRefusals compares who may reach the app's port now with who may reach
// the agent's port afterwards. Policies add up, so each rule that admits the one
// needs a rule of the same or wider peers that admits the other. Policies of
// other namespaces, and of other kinds, cannot be judged here.
func policyRefusals(w, changed *workload.Workload, captures []Capture, policies []networkingv1.NetworkPolicy) []Refusal {
	rec, err := ReadRecord(changed.Object)
	if err != nil || rec == nil {
		return nil
	}
	before := &Original(w).Template.Spec
	after := &changed.Template.Spec
	var all []Refusal
	for _, c := range rec.Captures {
		if !slices.ContainsFunc(captures, func(p Capture) bool { return p.Port() == c.Port() }) {
			continue
		}
		for _, kind := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
			rules := rulesFor(kind, w.Template.Labels, policies)
			if blocked := firstBlocked(rules, c, before, after); blocked != "" {
				all = append(all, Refusal{
					Code: NetworkPolicy,
					Fact: fmt.Sprintf("networkpolicy/%s (%s) admits traffic to port %s of %s, but would not to the agent's port %d",
						blocked, kind, c.Port(), w, c.Listen),
					Mend: fmt.Sprintf("add port %d to that rule, or use the port's name in the policy and in the Service", c.Listen),
				})
			}
		}
	}
	return all
}

// policyRule is what ingress and egress rules have in common.
type policyRule struct {
	policy string
	pods   metav1.LabelSelector // whom the policy of an egress rule selects
	ports  []networkingv1.NetworkPolicyPort
	peers  []networkingv1.NetworkPolicyPeer
}

// rulesFor lists the rules that may concern traffic to pods with these labels.
func rulesFor(kind networkingv1.PolicyType, podLabels map[string]string, policies []networkingv1.NetworkPolicy) []policyRule {
	var rules []policyRule
	for i := range policies {
		p := &policies[i]
		if !hasType(p, kind) {
			continue
		}
		if kind == networkingv1.PolicyTypeEgress {
			for _, r := range p.Spec.Egress {
				if mayReach(r.To, podLabels) {
					rules = append(rules, policyRule{policy: p.Name, pods: p.Spec.PodSelector, ports: r.Ports, peers: r.To})
				}
			}
			continue
		}
		if !matches(&p.Spec.PodSelector, podLabels) {
			continue
		}
		for _, r := range p.Spec.Ingress {
			rules = append(rules, policyRule{policy: p.Name, ports: r.Ports, peers: r.From})
		}
	}
	return rules
}

func hasType(p *networkingv1.NetworkPolicy, kind networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) == 0 {
		return kind == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
	}
	return slices.Contains(p.Spec.PolicyTypes, kind)
}

// mayReach reports whether an egress rule speaks of these pods: by their labels, or
// of everything. Address blocks are taken to mean the world outside.
func mayReach(peers []networkingv1.NetworkPolicyPeer, podLabels map[string]string) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		switch {
		case p.IPBlock != nil:
			return false
		case p.PodSelector == nil:
			return p.NamespaceSelector != nil
		}
		return matches(p.PodSelector, podLabels)
	})
}

func matches(selector *metav1.LabelSelector, podLabels map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(podLabels))
}

// firstBlocked names the policy of the first rule whose peers lose access.
func firstBlocked(rules []policyRule, c Capture, before, after *corev1.PodSpec) string {
	for _, r := range rules {
		if !admits(r.ports, c.Port(), before) {
			continue
		}
		if !slices.ContainsFunc(rules, func(other policyRule) bool { return covers(other, r) && admits(other.ports, c.agentPort(), after) }) {
			return r.policy
		}
	}
	return ""
}

// covers reports whether a speaks of everybody whom b speaks of.
func covers(a, b policyRule) bool {
	if !equality.Semantic.DeepEqual(a.pods, b.pods) {
		return false
	}
	return len(a.peers) == 0 || equality.Semantic.DeepEqual(a.peers, b.peers)
}

// admits reports whether the ports of a rule contain the port of a pod of this spec,
// whose names they may use.
func admits(ports []networkingv1.NetworkPolicyPort, port api.Port, spec *corev1.PodSpec) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if !isOf(protocol, port.Protocol) {
			return false
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			return resolvesTo(spec, p.Port.StrVal, port)
		case p.EndPort != nil:
			return int32(port.Number) >= p.Port.IntVal && int32(port.Number) <= *p.EndPort
		}
		return p.Port.IntVal == int32(port.Number)
	})
}

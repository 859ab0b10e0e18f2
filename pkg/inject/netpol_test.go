package inject

import (
	"errors"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
)

func policies(t testing.TB, texts ...string) []networkingv1.NetworkPolicy {
	t.Helper()
	var all []networkingv1.NetworkPolicy
	for _, text := range texts {
		all = append(all, *parse[networkingv1.NetworkPolicy](t, text))
	}
	return all
}

const (
	denyAll    = `{metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Ingress]}}`
	allowAll   = `{metadata: {name: all}, spec: {podSelector: {}, ingress: [{}]}}`
	allowFront = `{metadata: {name: front}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{from: [{podSelector: {matchLabels: {app: front}}}]}]}}`
	front8080  = `{metadata: {name: front-8080}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: 8080}]}]}}`
	all8080    = `{metadata: {name: all-8080}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{ports: [{protocol: TCP, port: 8080}]}]}}`
	byPortName = `{metadata: {name: by-name}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{ports: [{port: http}]}]}}`
	wideRange  = `{metadata: {name: range}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{ports: [{port: 8000, endPort: 16000}]}]}}`
	agentPort  = `{metadata: {name: agent}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{ports: [{port: 15900}]}]}}`
	agentUDP   = `{metadata: {name: agent-udp}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{ports: [{protocol: UDP, port: 15900}]}]}}`
	otherPod   = `{metadata: {name: other}, spec: {podSelector: {matchLabels: {app: store}}, ingress: [{ports: [{port: 8080}]}]}}`
	otherPort  = `{metadata: {name: other-port}, spec: {podSelector: {matchLabels: {app: back}}, ingress: [{ports: [{port: 9102}]}]}}`
	frontOut   = `{metadata: {name: front-out}, spec: {podSelector: {matchLabels: {app: front}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: back}}}], ports: [{port: 8080}]}]}}`
	frontNames = `{metadata: {name: front-names}, spec: {podSelector: {matchLabels: {app: front}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: back}}}], ports: [{port: http}]}]}}`
	dnsOut     = `{metadata: {name: dns-out}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}, {to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 8080}]}]}}`
	storeOut   = `{metadata: {name: store-out}, spec: {podSelector: {matchLabels: {app: front}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: store}}}], ports: [{port: 8080}]}]}}`
)

func TestPolicyRefusals(t *testing.T) {
	for _, tc := range []struct {
		name     string
		policies []string
		capture  Capture
		refused  string
	}{
		{name: "none"},
		{name: "all ports", policies: []string{allowFront}},
		{name: "nothing reaches it anyway", policies: []string{denyAll}},
		{name: "all", policies: []string{denyAll, allowAll}},
		{name: "one port", policies: []string{denyAll, front8080}, refused: "networkpolicy/front-8080 (Ingress) admits traffic to port 8080 of deployment/back, but would not to the agent's port 15900"},
		{name: "one port, from anywhere", policies: []string{all8080}, refused: "networkpolicy/all-8080"},
		{name: "range", policies: []string{wideRange}},
		{name: "agent's port too", policies: []string{front8080, agentPort}},
		{name: "agent's port by another protocol", policies: []string{front8080, agentUDP}, refused: "front-8080"},
		{name: "wider policy beside", policies: []string{front8080, allowFront}},
		{name: "narrower policy beside", policies: []string{all8080, allowFront}, refused: "all-8080"},
		{name: "name moves with the port", policies: []string{byPortName}},
		{name: "name stays with the app", policies: []string{byPortName}, capture: byNumber, refused: "by-name"},
		{name: "other pods", policies: []string{otherPod}},
		{name: "other port", policies: []string{otherPort}},
		{name: "clients may go to one port", policies: []string{frontOut}, refused: "networkpolicy/front-out (Egress)"},
		{name: "clients may go to a name", policies: []string{frontNames}},
		{name: "clients may go elsewhere", policies: []string{dnsOut, storeOut}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := facts(t)
			f.Policies = policies(t, tc.policies...)
			if tc.capture.App == 0 {
				tc.capture = byBoth
			}
			err := check(t, ready(t), specOf(tc.capture), f, true)
			if tc.refused == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var r *Refusal
			if !errors.As(err, &r) || r.Code != NetworkPolicy || !strings.Contains(r.Fact, tc.refused) || !strings.Contains(r.Mend, "15900") {
				t.Fatalf("got %v, want %q", err, tc.refused)
			}
		})
	}
}

package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	intercepts "github.com/kubectl-tele/kubectl-tele/pkg/intercept"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

const interceptFeature = access.Intercept

// reachLimit bounds reaching all agents once their pods run.
const reachLimit = 20 * time.Second

// settleTime is how long the nodes get to follow a change of endpoints.
// kube-proxy does so at most once a second, and takes a moment for it.
const settleTime = 1500 * time.Millisecond

// findTarget resolves what the user named. The workload may carry an agent
// already; it is looked at as it would be without.
func (s *Session) findTarget(ctx context.Context, spec InterceptSpec) (*target, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, apiTimeout, fmt.Errorf("the API server did not answer within %s", apiTimeout))
	defer cancel()
	ref, err := workload.ParseRef(spec.Workload)
	if err != nil {
		return nil, err
	}
	dep, err := workload.Get(ctx, s.client, s.cfg.Namespace, ref)
	if err != nil {
		return nil, err
	}
	services, err := workload.Services(ctx, s.client, s.cfg.Namespace, dep.Spec.Template.Labels)
	if err != nil {
		return nil, err
	}
	original := inject.Original(dep)
	var captures []inject.Capture
	if agent, ok := inject.AgentIn(&dep.Spec.Template.Spec); ok {
		captures = agent.Captures
	}
	for i := range services {
		services[i] = *inject.OriginalService(&services[i], captures...)
	}
	port, err := workload.FindPort(original, services, spec.Port, spec.Service)
	if err != nil {
		return nil, err
	}
	return &target{namespace: s.cfg.Namespace, workload: dep.Name, port: port}, nil
}

// begin takes the traffic: agent in, rollout complete, every agent reached,
// and only then the Services that lead to a number.
func (s *Session) begin(ctx context.Context, i *intercept, p Progress) error {
	if i.spec.Handler == "" {
		i.spec.Handler = intercepts.Localhost(i.target.port.Number)
	}
	if !i.spec.Lazy {
		if err := checkHandler(ctx, i.spec.Handler); err != nil {
			return err
		}
	}
	dep, restarted, err := s.injectAgent(ctx, i, p)
	if err != nil {
		return err
	}
	f, err := s.follow(i, dep.Spec.Selector)
	if err != nil {
		return err
	}
	i.mu.Lock()
	i.following = f
	i.mu.Unlock()
	if err := s.guard(f, i); err != nil {
		return err
	}
	if restarted {
		p.doing("rolling update of deployment/" + dep.Name)
		if err := s.waitRollout(ctx, dep.Name, dep.Generation, p); err != nil {
			return err
		}
		p.done("rolling update of deployment/" + dep.Name + " complete")
	}
	pods, err := workload.Pods(ctx, s.client, dep)
	if err != nil {
		return err
	}
	reachCtx, cancel := context.WithTimeoutCause(ctx, reachLimit, fmt.Errorf("no answer within %s", reachLimit))
	defer cancel()
	if err := f.waitActive(reachCtx, standing(pods)); err != nil {
		return conflict(i, err)
	}
	switched, err := s.switchServices(ctx, i, dep, p)
	if err != nil {
		return err
	}
	if restarted || switched {
		p.doing("waiting until the nodes lead traffic to the agents")
		if err := settle(ctx); err != nil {
			return err
		}
	}
	i.setState(Active)
	return nil
}

// settle waits until all nodes may be expected to follow a change of endpoints.
func settle(ctx context.Context) error {
	select {
	case <-time.After(settleTime):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// injectAgent puts the agent into the Deployment, or joins the one that is
// there. restarted says whether the pods are being replaced.
func (s *Session) injectAgent(ctx context.Context, i *intercept, p Progress) (dep *appsv1.Deployment, restarted bool, err error) {
	key, err := newKey()
	if err != nil {
		return nil, false, err
	}
	// A server that does not tell its version gets what works everywhere.
	serverVersion, err := s.client.Discovery().ServerVersion()
	if err != nil {
		s.log.Debug("server version not known", "err", err)
	}
	plan := inject.Plan{
		Agent:  inject.Options{Image: i.spec.AgentImage, Key: key},
		Native: inject.NativeSidecars(serverVersion),
		Owner:  i.recordOwner(),
	}
	services := i.target.services()
	old, err := workload.Get(ctx, s.client, s.cfg.Namespace, workload.Ref{Kind: "deployment", Name: i.target.workload})
	if err != nil {
		return nil, false, err
	}
	capture, err := inject.PlanCapture(old, services, i.target.port.Container, i.target.port.Number, inject.ModeAuto)
	if err != nil {
		return nil, false, err
	}
	plan.Captures = []inject.Capture{capture}
	i.capture = strings.Split(capture.String(), " and ")
	if err := s.mayInject(ctx, i, old, &plan, services, p); err != nil {
		return nil, false, err
	}
	i.mu.Lock()
	i.recorded = true
	i.mu.Unlock()
	dep, err = inject.RetryDeployment(ctx, s.client, s.cfg.Namespace, i.target.workload, func(now *appsv1.Deployment) (*appsv1.Deployment, error) {
		changed, err := inject.Sidecar(now, plan)
		if err == nil {
			restarted = inject.Restarts(now, changed)
		}
		return changed, err
	})
	if err != nil {
		return nil, false, err
	}
	// Another's rolling update may be under way to the agent that we join.
	return dep, restarted || rolling(dep), nil
}

// mayInject refuses what would hurt or not work, before anything is changed.
func (s *Session) mayInject(ctx context.Context, i *intercept, dep *appsv1.Deployment, plan *inject.Plan, services []corev1.Service, p Progress) error {
	facts, err := inject.Gather(ctx, s.client, dep, services)
	if err != nil {
		return err
	}
	if err := inject.Check(dep, *plan, facts, i.spec.AllowRestart); err != nil {
		return err
	}
	changed, err := inject.Sidecar(dep, *plan)
	if err != nil {
		return err
	}
	if !inject.Restarts(dep, changed) {
		p.done("deployment/" + dep.Name + " has an agent already: joining it")
		return nil
	}
	_, err = inject.DryRun(ctx, s.client, s.cfg.Namespace, changed.Spec.Template)
	if inject.NeedsCPULimit(err) {
		limited := inject.WithCPULimit(inject.DefaultResources(), resource.MustParse("1"))
		plan.Agent.Resources = &limited
		if changed, err = inject.Sidecar(dep, *plan); err != nil {
			return err
		}
		_, err = inject.DryRun(ctx, s.client, s.cfg.Namespace, changed.Spec.Template)
	}
	if err != nil {
		return err
	}
	p.done(fmt.Sprintf("inject sidecar, capture %s: one rolling update of %d pods", strings.Join(i.capture, " and "), replicasOf(dep)))
	s.warnBefore(i, dep, plan, facts, p)
	return nil
}

// warnBefore says what else the change touches.
func (s *Session) warnBefore(i *intercept, dep *appsv1.Deployment, plan *inject.Plan, facts inject.Facts, p Progress) {
	var names []string
	for _, svc := range i.target.services() {
		names = append(names, svc.Name)
	}
	for _, capture := range plan.Captures {
		if capture.Name == "" {
			continue
		}
		for _, use := range facts.Uses(dep, capture.Name, names) {
			p.warn(use)
		}
	}
	for _, warning := range inject.Warnings(*plan, i.target.services()) {
		p.warn(warning)
	}
	for _, manager := range inject.Managers(dep) {
		p.warn(manager)
	}
}

// switchServices turns the Services that lead to the port by its number to the
// agents, and says whether there were any.
func (s *Session) switchServices(ctx context.Context, i *intercept, dep *appsv1.Deployment, p Progress) (switched bool, err error) {
	agent, err := inject.ReadRecord(dep)
	if err != nil || agent == nil {
		return false, errors.Join(err, fmt.Errorf("deployment/%s lost its undo record", dep.Name))
	}
	byNumber := false
	for _, capture := range agent.Captures {
		byNumber = byNumber || (capture.App == i.target.port.Number && capture.Service)
	}
	if !byNumber {
		return false, nil
	}
	for _, svc := range i.target.port.Services {
		if svc.Named && i.takesName(agent) {
			continue
		}
		if _, err := inject.RetryService(ctx, s.client, s.cfg.Namespace, svc.Service.Name, func(now *corev1.Service) (*corev1.Service, error) {
			return inject.SwitchService(now, dep, i.recordOwner())
		}); err != nil {
			return switched, err
		}
		switched = true
		p.done("service/" + svc.Service.Name + " leads to the agents; connections that clients hold open stay with the app until they close them")
	}
	return switched, nil
}

// takesName says whether the agent has the port's name.
func (i *intercept) takesName(rec *inject.Record) bool {
	for _, capture := range rec.Captures {
		if capture.App == i.target.port.Number && capture.Name != "" {
			return true
		}
	}
	return false
}

// waitRollout reports a rollout's progress until it is complete.
func (c *Cluster) waitRollout(ctx context.Context, name string, generation int64, p Progress) error {
	return inject.WaitRollout(ctx, c.client, c.namespace, name, generation, func(now inject.Progress) {
		if !now.Completed {
			p.doing(fmt.Sprintf("deployment/%s: %s", name, now))
		}
	})
}

// conflict explains an agent's refusal.
func conflict(i *intercept, err error) error {
	var refused *tunnel.RefusedError
	if errors.As(err, &refused) && refused.Reason == tunnel.Conflict {
		return hint.With(fmt.Errorf("%s is intercepted already: %w", i.target, err),
			"`kubectl tele list` shows by whom")
	}
	return err
}

// recordOwner is the intercept's owner as the undo record keeps it.
func (i *intercept) recordOwner() inject.Owner {
	return inject.Owner{
		User: i.owner.User, Host: i.owner.Host, Session: i.owner.Session, Since: i.owner.Since,
		ID: i.id, Port: i.target.port.Number,
	}
}

// services returns the Services whose ports the intercept takes.
func (t *target) services() []corev1.Service {
	var out []corev1.Service
	for _, svc := range t.port.Services {
		out = append(out, *svc.Service)
	}
	return out
}

// standing are the pods that are not on their way out.
func standing(pods []corev1.Pod) []corev1.Pod {
	var out []corev1.Pod
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil && agentStarted(&pod) {
			out = append(out, pod)
		}
	}
	return out
}

// rolling says whether the Deployment's rollout is not complete.
func rolling(dep *appsv1.Deployment) bool {
	st := dep.Status
	return st.ObservedGeneration < dep.Generation || st.UpdatedReplicas < replicasOf(dep) || st.Replicas > st.UpdatedReplicas || st.AvailableReplicas < replicasOf(dep)
}

func replicasOf(dep *appsv1.Deployment) int32 {
	if dep.Spec.Replicas == nil {
		return 1
	}
	return *dep.Spec.Replicas
}

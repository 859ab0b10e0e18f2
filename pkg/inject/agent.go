package inject

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// Options say what an agent's container is made of.
type Options struct {
	Image       string
	PullPolicy  corev1.PullPolicy            // default IfNotPresent
	Key         []byte                       // api.KeyBytes; both ends of a tunnel prove that they know it
	ControlPort uint16                       // default api.DefaultControlPort
	Resources   *corev1.ResourceRequirements // default DefaultResources
	RunAsUser   *int64                       // default unset: the image's user, or what the cluster assigns (OpenShift)
}

func (o Options) controlPort() uint16 {
	if o.ControlPort == 0 {
		return api.DefaultControlPort
	}
	return o.ControlPort
}

func (o Options) validate() error {
	switch {
	case o.Image == "":
		return fmt.Errorf("the agent has no image")
	case len(o.Key) != api.KeyBytes:
		return fmt.Errorf("the agent's key has %d bytes, not %d", len(o.Key), api.KeyBytes)
	}
	return nil
}

// DefaultResources are small enough for a tight quota, and without a CPU limit:
// throttling would show in every request that passes.
func DefaultResources() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("10m"),
			corev1.ResourceMemory: resource.MustParse("32Mi"),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
	}
}

// WithCPULimit is r with a CPU limit, for namespaces whose quota demands one.
func WithCPULimit(r corev1.ResourceRequirements, limit resource.Quantity) corev1.ResourceRequirements {
	r = *r.DeepCopy()
	if r.Limits == nil {
		r.Limits = corev1.ResourceList{}
	}
	r.Limits[corev1.ResourceCPU] = limit
	return r
}

// AgentContainer is the agent as a container that the restricted Pod Security
// Standard admits. Every field that the API server would fill in is set, so that
// the container reads back as it was written. idleExit 0 means it never exits by
// itself.
func AgentContainer(o Options, captures []Capture, idleExit time.Duration) corev1.Container {
	pull := o.PullPolicy
	if pull == "" {
		pull = corev1.PullIfNotPresent
	}
	resources := DefaultResources()
	if o.Resources != nil {
		resources = *o.Resources.DeepCopy()
	}
	control := strconv.Itoa(int(o.controlPort()))
	return corev1.Container{
		Name:            api.ContainerName,
		Image:           o.Image,
		ImagePullPolicy: pull,
		Command:         []string{api.Binary},
		Args:            agentArgs(o.controlPort(), captures, idleExit),
		Ports:           agentPorts(captures),
		Env: []corev1.EnvVar{
			{Name: api.EnvKey, Value: hex.EncodeToString(o.Key)},
			{Name: api.EnvPod, ValueFrom: fieldRef("metadata.name")},
			{Name: api.EnvPodIP, ValueFrom: fieldRef("status.podIPs")},
			{Name: "GOMEMLIMIT", Value: "100MiB"},
		},
		Resources: resources,
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot:             new(true),
			RunAsUser:                o.RunAsUser,
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		StartupProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{
				Exec: &corev1.ExecAction{Command: checkCommand(control, captures)},
			},
			PeriodSeconds:    1,
			TimeoutSeconds:   5,
			SuccessThreshold: 1,
			FailureThreshold: 60,
		},
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// awaitSession is how long a captured pod's start waits for a session. Clients
// that connect before would keep their connections to the app; a pod without
// any session left must start all the same.
const awaitSession = 5 * time.Second

func checkCommand(control string, captures []Capture) []string {
	command := []string{api.Binary, "check", "--control-port=" + control}
	if len(captures) > 0 {
		command = append(command, "--await-session="+awaitSession.String())
	}
	return command
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

func agentArgs(control uint16, captures []Capture, idleExit time.Duration) []string {
	args := []string{"serve", fmt.Sprintf("--control-port=%d", control)}
	for _, c := range captures {
		args = append(args, "--capture="+c.agent().String())
	}
	if idleExit > 0 {
		args = append(args, "--idle-exit="+short(idleExit))
	}
	return args
}

// short prints 11m0s as 11m.
func short(d time.Duration) string {
	s := d.String()
	if trimmed, ok := strings.CutSuffix(s, "m0s"); ok {
		return trimmed + "m"
	}
	return s
}

func agentPorts(captures []Capture) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, c := range captures {
		ports = append(ports, corev1.ContainerPort{Name: c.Name, ContainerPort: int32(c.Listen), Protocol: objectProtocol(c.Protocol)})
	}
	return ports
}

// Agent is an agent as a pod's spec describes it: what a session needs to
// reach it.
type Agent struct {
	Container   string
	Image       string
	Key         []byte
	ControlPort uint16
	Captures    []Capture // Listen, App, Protocol and Name alone
	Native      bool      // a native sidecar
}

// AgentIn finds the agent in a pod's spec, or a template's. ok is false when
// there is none, or none that can be understood.
func AgentIn(spec *corev1.PodSpec) (agent Agent, ok bool) {
	c, native := agentContainer(spec)
	if c == nil {
		return Agent{}, false
	}
	key, err := api.ParseKey(envValue(c, api.EnvKey))
	if err != nil {
		return Agent{}, false
	}
	agent = Agent{Container: c.Name, Image: c.Image, Key: key, ControlPort: api.DefaultControlPort, Native: native}
	for _, arg := range c.Args {
		if value, found := strings.CutPrefix(arg, "--control-port="); found {
			if n, err := strconv.ParseUint(value, 10, 16); err == nil {
				agent.ControlPort = uint16(n)
			}
		}
	}
	agent.Captures = capturesOf(c)
	return agent, true
}

func agentContainer(spec *corev1.PodSpec) (c *corev1.Container, native bool) {
	if i := slices.IndexFunc(spec.Containers, isAgent); i >= 0 {
		return &spec.Containers[i], false
	}
	if i := slices.IndexFunc(spec.InitContainers, isAgent); i >= 0 {
		return &spec.InitContainers[i], true
	}
	return nil, false
}

// isAgent is deliberately more than the name: another's container of this name
// is not ours to remove.
func isAgent(c corev1.Container) bool {
	return c.Name == api.ContainerName && slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == api.EnvKey })
}

func envValue(c *corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// capturesOf reads the captures back from the container's arguments and ports.
func capturesOf(c *corev1.Container) []Capture {
	var captures []Capture
	for _, arg := range c.Args {
		value, found := strings.CutPrefix(arg, "--capture=")
		if !found {
			continue
		}
		of, err := api.ParseCapture(value)
		if err != nil {
			continue
		}
		capture := Capture{Listen: of.Listen, App: of.App, Protocol: of.Protocol}
		for _, p := range c.Ports {
			if p.ContainerPort == int32(of.Listen) {
				capture.Name = p.Name
			}
		}
		captures = append(captures, capture)
	}
	return captures
}

package manifests

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// server is what sets one mode of the applications apart.
type server struct {
	mode     string
	portName string
	probe    func(port intstr.IntOrString) corev1.ProbeHandler
	protocol corev1.Protocol
	admin    bool // listens on AdminPort too
}

func probeHTTP(port intstr.IntOrString) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: port}}
}

func probeTCP(port intstr.IntOrString) corev1.ProbeHandler {
	return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}
}

// probeAdmin asks the second port, whatever the first is called.
func probeAdmin(intstr.IntOrString) corev1.ProbeHandler {
	return probeHTTP(intstr.FromInt32(AdminPort))
}

// probeGRPC knows no names: the API has none there.
func probeGRPC(intstr.IntOrString) corev1.ProbeHandler {
	return corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: AppPort}}
}

func probeExec(intstr.IntOrString) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{Binary, "true"}}}
}

func deployed(name string, s server, o Options) App {
	o = o.with(s.portName)
	return App{Service: s.service(name, o), Deployment: &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: objectMeta(name, o),
		Spec: appsv1.DeploymentSpec{
			Replicas: &o.Replicas,
			Selector: selector(name),
			Strategy: *o.Strategy,
			Template: s.template(name, o),
		},
	}}
}

func stateful(name string, s server, o Options) App {
	o = o.with(s.portName)
	return App{Service: s.service(name, o), StatefulSet: &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: objectMeta(name, o),
		Spec: appsv1.StatefulSetSpec{
			Replicas:            &o.Replicas,
			Selector:            selector(name),
			ServiceName:         name,
			PodManagementPolicy: appsv1.ParallelPodManagement,
			Template:            s.template(name, o),
		},
	}}
}

func objectMeta(name string, o Options) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: o.Namespace, Labels: map[string]string{"app": name}}
}

func selector(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func (s server) service(name string, o Options) *corev1.Service {
	if o.NoService {
		return nil
	}
	svc := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: objectMeta(name, o),
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports: []corev1.ServicePort{{
				Name:       s.portName,
				Port:       o.ServicePort,
				TargetPort: o.TargetPort,
				Protocol:   or(s.protocol, corev1.ProtocolTCP),
			}},
		},
	}
	if s.admin {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name: "admin", Port: AdminPort, TargetPort: intstr.FromInt32(AdminPort), Protocol: corev1.ProtocolTCP,
		})
	}
	if o.Headless {
		svc.Spec.ClusterIP = corev1.ClusterIPNone
	}
	return svc
}

func (s server) template(name string, o Options) corev1.PodTemplateSpec {
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: o.podLabels(name)},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &o.GraceSeconds,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   new(true),
				RunAsUser:      new(int64(uid)),
				RunAsGroup:     new(int64(uid)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{s.container(o)},
		},
	}
	if o.Mutate != nil {
		o.Mutate(&template)
	}
	return template
}

func (s server) container(o Options) corev1.Container {
	c := corev1.Container{
		Name:            "app",
		Image:           o.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            s.args(o),
		Env: append([]corev1.EnvVar{
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			{Name: "VERSION", Value: o.Version},
		}, o.Env...),
		Ports: []corev1.ContainerPort{{
			Name:          o.PortName,
			ContainerPort: AppPort,
			Protocol:      or(s.protocol, corev1.ProtocolTCP),
		}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("5m"),
			corev1.ResourceMemory: resource.MustParse("16Mi"),
		}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	if o.Next != "" {
		c.Env = append(c.Env, corev1.EnvVar{Name: "NEXT", Value: o.Next})
	}
	if s.admin {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: "admin", ContainerPort: AdminPort, Protocol: corev1.ProtocolTCP})
	}
	if o.PreStop > 0 {
		seconds := strconv.FormatInt(o.PreStop, 10)
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{Binary, "sleep", seconds}},
		}}
	}
	s.probes(&c, o)
	return c
}

func (s server) args(o Options) []string {
	// What SIGTERM leaves of the grace period, less a second for the exit.
	drain := max(1, o.GraceSeconds-o.PreStop-1)
	args := []string{s.mode, "-drain", strconv.FormatInt(drain, 10) + "s"}
	if s.admin {
		args = append(args, "-addr", ":"+strconv.Itoa(AppPort), "-addr", ":"+strconv.Itoa(AdminPort))
	}
	return slices.Concat(args, o.Args)
}

func (s server) probes(c *corev1.Container, o Options) {
	if o.Probes == ProbesNone {
		return
	}
	port := intstr.FromInt32(AppPort)
	if o.Probes == ProbesByName {
		port = intstr.FromString(o.PortName)
	}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: s.probe(port), PeriodSeconds: 1, TimeoutSeconds: 2, FailureThreshold: 3}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: s.probe(port), PeriodSeconds: 5, TimeoutSeconds: 5, FailureThreshold: 6}
	if c.ReadinessProbe.Exec != nil {
		// A process each, where others get a packet: once a second they would
		// keep a node busy. The first comes at once.
		c.ReadinessProbe.PeriodSeconds, c.LivenessProbe.PeriodSeconds = 30, 60
	}
}

// Package manifests makes the Kubernetes objects of the test applications:
// each builder gives one application with a name of the caller's, so that
// tests have copies of their own, and Objects gives the whole shop.
//
// All pods comply with Pod Security `restricted`. Services and workloads are
// named alike; the label app is that name too.
package manifests

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// Image is the name that test/apps/pack gives its image.
	Image = "localhost/tele-test-apps:1"
	// Binary is the applications' path in the image.
	Binary = "/apps"
	// Namespace is where the shop lives when nothing else is said.
	Namespace = "shop"
	// AppPort is the port every server listens on.
	AppPort = 8080
	// AdminPort is the second port of TwoPorts.
	AdminPort = 9090
	// uid is who the applications run as.
	uid = 65532
)

// Probes says how a pod's probes name their port.
type Probes int

// The ways of naming it.
const (
	ProbesDefault  Probes = iota // ProbesByName where the port has a name, else ProbesByNumber
	ProbesByName                 // by the container port's name
	ProbesByNumber               // by its number
	ProbesNone                   // no probes
)

// Options change what a builder makes; the zero value is a good application.
type Options struct {
	Namespace string // Namespace
	Image     string // Image
	Replicas  int32  // 2; -1 is none
	Version   string // v1; what the application says it is

	PortName    string             // the container port's name: http, grpc, tcp, udp; "-" is none
	ServicePort int32              // 80; what the Service listens on
	TargetPort  intstr.IntOrString // of the Service: the port's name if it has one, else its number
	Headless    bool               // the Service has no address of its own
	NoService   bool               // the application has no Service

	Next         string // base URL of the next application, for /chain
	Probes       Probes
	Strategy     *appsv1.DeploymentStrategy // RollingUpdate, maxUnavailable 0, maxSurge 1
	Args         []string                   // after the mode
	Env          []corev1.EnvVar            // besides POD_NAME, VERSION and NEXT
	Labels       map[string]string          // of the pods, besides app
	PreStop      int64                      // 3; seconds before SIGTERM; -1 is none
	GraceSeconds int64                      // 20; terminationGracePeriodSeconds

	// Mutate is the last to change the pods' template.
	Mutate func(*corev1.PodTemplateSpec)
}

// with fills in what o leaves open; portName is the application's own.
func (o Options) with(portName string) Options {
	o.Namespace = or(o.Namespace, Namespace)
	o.Image = or(o.Image, Image)
	o.Version = or(o.Version, "v1")
	o.Replicas = orNone(o.Replicas, 2)
	o.ServicePort = or(o.ServicePort, 80)
	o.PreStop = orNone(o.PreStop, 3)
	o.GraceSeconds = or(o.GraceSeconds, 20)
	o.PortName = or(o.PortName, portName)
	if o.PortName == "-" {
		o.PortName = ""
	}
	if o.TargetPort == (intstr.IntOrString{}) {
		o.TargetPort = intstr.FromInt32(AppPort)
		if o.PortName != "" {
			o.TargetPort = intstr.FromString(o.PortName)
		}
	}
	if o.Probes == ProbesDefault {
		o.Probes = ProbesByNumber
		if o.PortName != "" {
			o.Probes = ProbesByName
		}
	}
	if o.Strategy == nil {
		o.Strategy = &appsv1.DeploymentStrategy{
			Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: new(intstr.FromInt32(0)),
				MaxSurge:       new(intstr.FromInt32(1)),
			},
		}
	}
	return o
}

func (o Options) podLabels(name string) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, o.Labels)
	labels["app"] = name
	return labels
}

// App is one application: a Deployment or a StatefulSet, and its Service.
type App struct {
	Deployment  *appsv1.Deployment
	StatefulSet *appsv1.StatefulSet
	Service     *corev1.Service
}

// Objects are the parts that are there, the Service first.
func (a App) Objects() []runtime.Object {
	var objects []runtime.Object
	if a.Service != nil {
		objects = append(objects, a.Service)
	}
	if a.Deployment != nil {
		objects = append(objects, a.Deployment)
	}
	if a.StatefulSet != nil {
		objects = append(objects, a.StatefulSet)
	}
	return objects
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// orNone is or for numbers where -1 means zero.
func orNone[T int32 | int64](value, otherwise T) T {
	if value < 0 {
		return 0
	}
	return or(value, otherwise)
}

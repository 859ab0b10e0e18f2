package workload

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func deployment(containers ...corev1.Container) *appsv1.Deployment {
	dep := named("back")
	dep.Spec.Template.Labels = map[string]string{"app": "back"}
	dep.Spec.Template.Spec.Containers = containers
	return dep
}

// view is the Deployment as a Workload.
func view(dep *appsv1.Deployment) *Workload { return Deployments{}.View(dep) }

func container(name string, ports ...corev1.ContainerPort) corev1.Container {
	return corev1.Container{Name: name, Ports: ports}
}

func tcp(name string, number int32) corev1.ContainerPort {
	return corev1.ContainerPort{Name: name, ContainerPort: number, Protocol: corev1.ProtocolTCP}
}

func udp(name string, number int32) corev1.ContainerPort {
	return corev1.ContainerPort{Name: name, ContainerPort: number, Protocol: corev1.ProtocolUDP}
}

func service(name string, ports ...corev1.ServicePort) corev1.Service {
	return corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "back"}, Ports: ports},
	}
}

// leads is a Service port; target is a number, a name, or "" for the default.
func leads(name string, port int32, target string) corev1.ServicePort {
	p := corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP}
	if target != "" {
		p.TargetPort = intstr.Parse(target)
	}
	return p
}

func TestFindPort(t *testing.T) {
	app := container("app", tcp("http", 8080), tcp("grpc", 9090), udp("dns", 53))
	sidecar := container("proxy", tcp("http", 15000), tcp("metrics", 9102))
	two := deployment(app, sidecar)
	http := service("back", leads("http", 80, "http"))
	grpc := service("back-grpc", leads("grpc", 9090, "9090"))
	metrics := service("back-metrics", leads("", 9102, ""))
	dns := service("dns", corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns")})
	sctp := service("sctp", corev1.ServicePort{Name: "x", Port: 99, Protocol: corev1.ProtocolSCTP})
	both := service("both", leads("tcp", 8080, "8080"), corev1.ServicePort{Port: 8080, Protocol: corev1.ProtocolUDP})
	lost := service("lost", leads("x", 80, "nosuch"))
	for _, tc := range []struct {
		name     string
		services []corev1.Service
		want     string
		service  string
		port     string // container:number:name services
		err      string
		hint     string
	}{
		{name: "only one", services: []corev1.Service{http}, port: "app:8080:http back:http=named"},
		{name: "by service port name", services: []corev1.Service{http, grpc}, want: "grpc", port: "app:9090:grpc back-grpc:grpc"},
		{name: "by service port number", services: []corev1.Service{http, grpc}, want: "80", port: "app:8080:http back:http=named"},
		{name: "by container port number", services: []corev1.Service{http, grpc}, want: "8080", port: "app:8080:http back:http=named"},
		{name: "by service and port", services: []corev1.Service{http, grpc}, want: "back:80", port: "app:8080:http back:http=named"},
		{name: "by service and port name", services: []corev1.Service{http, grpc}, want: "back:http", port: "app:8080:http back:http=named"},
		{name: "service alone", services: []corev1.Service{http, grpc}, service: "back-grpc", port: "app:9090:grpc back-grpc:grpc"},
		{name: "default target, other container", services: []corev1.Service{metrics}, port: "proxy:9102:metrics back-metrics:9102"},
		{name: "both kinds", services: []corev1.Service{http, service("alias", leads("", 8080, "8080"))}, port: "app:8080:http back:http=named alias:8080"},
		{name: "one of both kinds", services: []corev1.Service{http, service("alias", leads("", 8080, "8080"))}, service: "alias", port: "app:8080:http alias:8080"},
		{name: "not declared", services: []corev1.Service{service("raw", leads("", 80, "7000"))}, port: "app:7000: raw:80"},
		{name: "UDP beside", services: []corev1.Service{http, dns}, port: "app:8080:http back:http=named"},
		{name: "UDP alone", services: []corev1.Service{dns}, port: "app:53/udp:dns dns:dns/udp=named"},
		{name: "UDP by name", services: []corev1.Service{http, dns}, want: "dns", port: "app:53/udp:dns dns:dns/udp=named"},
		{name: "UDP by number", services: []corev1.Service{http, dns}, want: "53", port: "app:53/udp:dns dns:dns/udp=named"},
		{name: "UDP by protocol", services: []corev1.Service{both}, want: "8080/udp", port: "app:8080/udp: both:8080/udp"},
		{name: "UDP by service and protocol", services: []corev1.Service{both, http}, want: "both:8080/UDP", port: "app:8080/udp: both:8080/udp"},
		{name: "both protocols", services: []corev1.Service{both}, want: "8080", port: "app:8080:http both:tcp"},
		{name: "TCP by protocol", services: []corev1.Service{both}, want: "8080/tcp", port: "app:8080:http both:tcp"},
		{name: "no such protocol", services: []corev1.Service{both}, want: "8080/sctp", err: `has no port "8080/sctp"`, hint: "both:8080/udp (container app, port 8080/udp)"},

		{name: "no service", err: "no Service selects the pods of deployment/back", hint: "kubectl expose deployment/back -n shop"},
		{name: "service by wrong name", services: []corev1.Service{http}, service: "abck", err: `no Service "abck" selects`, hint: "the Services that do: back"},
		{name: "wrong service and port", services: []corev1.Service{http}, want: "front:80", err: `no Service "front" selects`, hint: "back"},
		{name: "service twice", services: []corev1.Service{http}, want: "front:80", service: "back", err: "names another Service", hint: "once"},
		{name: "missing port", services: []corev1.Service{http, grpc}, want: "443", err: `has no port "443"`, hint: "back:http (container app, port 8080), back-grpc:grpc (container app, port 9090)"},
		{name: "several", services: []corev1.Service{http, grpc}, err: "has 2 ports that Services lead to", hint: "back:http (container app, port 8080), back-grpc:grpc"},
		{
			name:     "ambiguous",
			services: []corev1.Service{service("a", leads("", 80, "8080")), service("b", leads("", 8080, "9090"))},
			want:     "8080", err: `port "8080" of deployment/back is ambiguous`, hint: "a:80 (container app, port 8080), b:8080 (container app, port 9090)",
		},
		{name: "SCTP alone", services: []corev1.Service{sctp}, err: "no Service leads to a port of deployment/back that can be intercepted (sctp:x/sctp is SCTP)", hint: "TCP and UDP"},
		{name: "leads nowhere", services: []corev1.Service{lost}, err: `lost:x leads to port "nosuch", which no container has`},
		{name: "no ports", services: []corev1.Service{service("headless")}, err: "have no ports"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := FindPort(view(two), tc.services, tc.want, tc.service)
			if tc.err != "" {
				wantError(t, err, tc.err, tc.hint)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []string{fmt.Sprintf("%s:%s:%s", p.Container, p, p.Name)}
			for _, s := range p.Services {
				text := s.String()
				if s.Named {
					text += "=named"
				}
				got = append(got, text)
			}
			if strings.Join(got, " ") != tc.port {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), tc.port)
			}
		})
	}
}

func TestFindPortOfNativeSidecar(t *testing.T) {
	dep := deployment(container("app", tcp("", 8080)))
	always := corev1.ContainerRestartPolicyAlways
	dep.Spec.Template.Spec.InitContainers = []corev1.Container{
		container("setup", tcp("http", 1)),
		{Name: "proxy", RestartPolicy: &always, Ports: []corev1.ContainerPort{tcp("http", 2)}},
	}
	p, err := FindPort(view(dep), []corev1.Service{service("back", leads("", 80, "http"))}, "", "")
	if err != nil || p.Container != "proxy" || p.Number != 2 {
		t.Fatalf("got %+v, %v; want the native sidecar's port, not the init container's", p, err)
	}
}

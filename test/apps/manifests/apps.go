package manifests

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// HTTP is the echo application, and a link of the chain when Next is set.
func HTTP(name string, o Options) App {
	return deployed(name, server{mode: "http", portName: "http", probe: probeHTTP}, o)
}

// TwoPorts is HTTP on two ports: http (80 to AppPort) and admin (AdminPort).
func TwoPorts(name string, o Options) App {
	return deployed(name, server{mode: "http", portName: "http", probe: probeHTTP, admin: true}, o)
}

// StatefulHTTP is HTTP as a StatefulSet with a headless Service: its pods have
// names of their own, NAME-0.NAME.
func StatefulHTTP(name string, o Options) App {
	o.Headless = true
	return stateful(name, server{mode: "http", portName: "http", probe: probeHTTP}, o)
}

// GRPC is the gRPC application, probed by its health service.
func GRPC(name string, o Options) App {
	return deployed(name, server{mode: "grpc", portName: "grpc", probe: probeGRPC}, o)
}

// Interop is gRPC's own interop server.
func Interop(name string, o Options) App {
	return deployed(name, server{mode: "interop", portName: "grpc", probe: probeGRPC}, o)
}

// TCP is the TCP echo.
func TCP(name string, o Options) App {
	return deployed(name, server{mode: "tcp", portName: "tcp", probe: probeTCP}, o)
}

// SlowFin is the server that answers 3 s after the client's FIN.
func SlowFin(name string, o Options) App {
	return deployed(name, server{mode: "slowfin", portName: "tcp", probe: probeTCP}, o)
}

// Raw is the server of conversations; what it plays is told to it on AdminPort. Its
// probes go there too: what it plays on begins with the first connection.
func Raw(name string, o Options) App {
	return deployed(name, server{mode: "raw", portName: "tcp", probe: probeAdmin, admin: true}, o)
}

// UDP is the UDP echo.
func UDP(name string, o Options) App {
	return deployed(name, server{mode: "udp", portName: "udp", probe: probeExec, protocol: corev1.ProtocolUDP}, o)
}

// Refuse is always ready and listens on nothing: its Service refuses.
func Refuse(name string, o Options) App {
	return deployed(name, server{mode: "refuse", portName: "http", probe: probeExec}, o)
}

// Shop is the applications of the test namespace:
//
//	front -> back -> store   the chain; named, numeric and named targetPort
//	two       two ports      peers     headless
//	db        StatefulSet, headless
//	grpc, tcp, slowfin, udp, refuse
//
// Their Services listen on port 80, but for tcp, slowfin and udp: 7.
func Shop(image, namespace string) []App {
	o := Options{Image: image, Namespace: namespace}
	front, back, store, echo := o, o, o, o
	front.Next = "http://back"
	back.Next = "http://store"
	back.PortName, back.Probes = "-", ProbesByNumber
	back.TargetPort = intstr.FromInt32(AppPort)
	store.Probes = ProbesByNumber
	echo.ServicePort = 7
	peers := o
	peers.Headless = true
	peers.ServicePort = AppPort // nothing translates a headless Service's port
	db := o
	db.ServicePort = AppPort
	return []App{
		HTTP("front", front), HTTP("back", back), HTTP("store", store),
		TwoPorts("two", o), HTTP("peers", peers), StatefulHTTP("db", db),
		GRPC("grpc", o), TCP("tcp", echo), SlowFin("slowfin", echo), UDP("udp", echo), Refuse("refuse", o),
	}
}

// Objects are the objects of Shop, ready to be created or applied.
func Objects(image, namespace string) []runtime.Object {
	var objects []runtime.Object
	for _, app := range Shop(image, namespace) {
		objects = append(objects, app.Objects()...)
	}
	return objects
}

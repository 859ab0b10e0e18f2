package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// asker returns what makes one request in the protocol of a load; what goes wrong is
// part of the outcome. done closes its connections.
func asker(o loadOptions, to string) (ask func(context.Context, callRequest) api.Call, done func(), err error) {
	switch o.protocol {
	case "http1", "http2":
		client := newClient()
		transport := &http.Transport{MaxIdleConnsPerHost: o.workers, DisableKeepAlives: o.fresh, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(o.protocol == "http1")
		transport.Protocols.SetUnencryptedHTTP2(o.protocol == "http2")
		client.Transport = transport
		return func(ctx context.Context, c callRequest) api.Call { return call(ctx, client, c) }, client.CloseIdleConnections, nil
	case "udp":
		a := &udpAsker{fresh: o.fresh}
		return timed(a.ask), a.close, nil
	case "websocket":
		return timed(askWebSocket), func() {}, nil
	case "grpc":
		u, err := url.Parse(to)
		if err != nil {
			return nil, nil, err
		}
		host := u.Host
		if u.Port() == "" {
			host += ":80"
		}
		conn, err := grpc.NewClient("passthrough:///"+host, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, nil, err
		}
		client := testgrpc.NewTestServiceClient(conn)
		ask := timed(func(ctx context.Context, c callRequest, out *api.Call) error { return askGRPC(ctx, client, c, out) })
		return ask, func() { _ = conn.Close() }, nil
	}
	return nil, nil, fmt.Errorf("load: unknown protocol %q", o.protocol)
}

// timed makes a call's outcome of one request.
func timed(ask func(context.Context, callRequest, *api.Call) error) func(context.Context, callRequest) api.Call {
	return func(ctx context.Context, c callRequest) (out api.Call) {
		begin := time.Now()
		out.URL = c.url
		if err := ask(ctx, c, &out); err != nil {
			out.Error = err.Error()
		}
		out.Millis = time.Since(begin).Milliseconds()
		return out
	}
}

// answeredBy makes an answer of one that only says who gave it.
func answeredBy(out *api.Call, pod, version string) error {
	b, err := json.Marshal(api.Echo{Pod: pod, Version: version})
	out.Status, out.Body = http.StatusOK, string(b)
	return err
}

func askWebSocket(ctx context.Context, c callRequest, out *api.Call) error {
	header := http.Header{}
	for _, h := range c.headers {
		name, value, _ := strings.Cut(h, ":")
		header.Set(name, value)
	}
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, strings.Replace(c.url, "http://", "ws://", 1)+"/ws", header)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(deadline)
	}
	for _, size := range []int{1, 200, 70_000} {
		sent := strings.Repeat("w", size)
		if err := conn.WriteMessage(websocket.TextMessage, []byte(sent)); err != nil {
			return err
		}
		if _, got, err := conn.ReadMessage(); err != nil {
			return err
		} else if string(got) != sent {
			return errors.New("another message came back")
		}
	}
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye")
	if err := conn.WriteMessage(websocket.CloseMessage, bye); err != nil {
		return err
	}
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		return fmt.Errorf("no goodbye: %w", err)
	}
	return answeredBy(out, resp.Header.Get("X-Pod"), resp.Header.Get("X-Version"))
}

func askGRPC(ctx context.Context, client testgrpc.TestServiceClient, c callRequest, out *api.Call) error {
	for _, h := range c.headers {
		name, value, _ := strings.Cut(h, ":")
		ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(name), value)
	}
	answer, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, c.bytes)}}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	if got := int64(len(answer.GetPayload().GetBody())); got != c.bytes {
		return fmt.Errorf("%d bytes came back of %d", got, c.bytes)
	}
	return answeredBy(out, answer.GetServerId(), answer.GetHostname())
}

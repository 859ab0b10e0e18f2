package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// maxBytes bounds what /big and /call will send.
const maxBytes = 1 << 40

// newMux is the http application:
//
//	/healthz                 200
//	/big?bytes=N             N bytes of api.Content
//	/sink                    reads the body, answers its api.Sum
//	/discard                 reads the body, answers nothing
//	/ws                      WebSocket echo; with ?first=TEXT it says that first
//	/grpc.testing.*          the grpc application, by gRPC
//	/chain                   api.Hop, with the answer of NEXT/chain inside
//	/call?url=U&method=M&bytes=N&header=K:V   makes that request, answers api.Call
//	/status/CODE             that status
//	/environ                 the environment of the process, an array of NAME=VALUE
//	/delay?for=DURATION      answers the echo after that long
//	anything else            api.Echo; as text with ?format=text
func newMux(id identity, client *http.Client, sockets *sockets) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("/big", serveBig)
	mux.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		sum, err := api.ReadSum(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, http.StatusOK, sum)
	})
	mux.HandleFunc("/discard", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 256<<10))
	})
	mux.Handle("/ws", sockets)
	mux.HandleFunc("/chain", func(w http.ResponseWriter, r *http.Request) { serveChain(w, r, id, client) })
	mux.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) { serveCall(w, r, client) })
	mux.HandleFunc("/environ", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, os.Environ()) })
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.PathValue("code"))
		if err != nil || code < 200 || code > 599 {
			http.Error(w, "want a status of 200 to 599", http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Pod", id.Pod)
		w.WriteHeader(code)
	})
	mux.HandleFunc("/delay", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.URL.Query().Get("for"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(d):
		}
		serveEcho(w, r, id)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { serveEcho(w, r, id) })
	return mux
}

func serveEcho(w http.ResponseWriter, r *http.Request, id identity) {
	sum, err := api.ReadSum(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Pod", id.Pod)
	w.Header().Set("X-Version", id.Version)
	if r.URL.Query().Get("format") == "text" {
		_, _ = fmt.Fprintf(w, "%s %s: %s %s from %s, %d bytes\n", id.Pod, id.Version, r.Method, r.URL.Path, r.RemoteAddr, sum.Bytes)
		return
	}
	local := ""
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		local = a.String()
	}
	writeJSON(w, http.StatusOK, api.Echo{
		Pod: id.Pod, Version: id.Version,
		Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, Proto: r.Proto,
		Headers: r.Header, Remote: r.RemoteAddr, Local: local, Body: sum,
	})
}

func serveBig(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		http.Error(w, "want ?bytes=N", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.CopyBuffer(struct{ io.Writer }{w}, api.Content(n), make([]byte, 256<<10))
}

func serveChain(w http.ResponseWriter, r *http.Request, id identity, client *http.Client) {
	hop := api.Hop{Pod: id.Pod, Version: id.Version}
	status := http.StatusOK
	if id.Next != "" {
		next, err := nextHop(r.Context(), client, id.Next, r.Header)
		if err != nil {
			hop.Error, status = err.Error(), http.StatusBadGateway
		}
		hop.Next = next
	}
	writeJSON(w, status, hop)
}

// nextHop asks the next application, passing on the headers by which people
// mark their requests (all that begin with X-).
func nextHop(ctx context.Context, client *http.Client, base string, headers http.Header) (*api.Hop, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/chain", nil)
	if err != nil {
		return nil, err
	}
	for k, v := range headers {
		if strings.HasPrefix(k, "X-") {
			req.Header[k] = v
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", base, err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadGateway {
		return nil, fmt.Errorf("%s answered %s", base, resp.Status)
	}
	hop := &api.Hop{}
	if err := json.Unmarshal(body, hop); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", base, err)
	}
	return hop, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client is gone; nobody is left to tell
}

func runHTTP(ctx context.Context, s settings, _ []string) error {
	sockets := &sockets{identity: s.identity}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           withGRPC(newGRPC(s.identity), newMux(s.identity, newClient(), sockets)),
		ReadHeaderTimeout: 30 * time.Second,
		Protocols:         protocols,
	}
	listeners, err := listen(s.addrs)
	if err != nil {
		return err
	}
	if s.tunnel != "" {
		flows, err := listenFlows(s.tunnel)
		if err != nil {
			return err
		}
		listeners = append(listeners, flows)
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		fmt.Fprintf(s.log, "http: listening on %s\n", l.Addr())
		wg.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	sockets.Shutdown() // http.Server would do it at some later time, in a goroutine of its own
	if e := server.Shutdown(drain); e != nil {
		_ = server.Close()
	}
	sockets.Wait(drain)
	wg.Wait()
	return err
}

// withGRPC lets a gRPC server answer what is meant for it.
func withGRPC(server *grpc.Server, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			server.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// listen opens a listener for each address, or none.
func listen(addrs []string) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, addr := range addrs {
		network := "tcp"
		if strings.HasPrefix(addr, "/") { // as the container before has left it
			network = "unix"
			_ = os.Remove(addr)
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

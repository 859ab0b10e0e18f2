package agent

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/files"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// maxReaders bounds the flows over which files are read at a time: each takes up to
// 1 MiB of answers on their way, and 1024 open files.
const maxReaders = 16

// readers counts the flows over which files are read.
type readers struct{ n atomic.Int32 }

// serveFiles shows the pod's volumes until the flow ends.
func (a *Agent) serveFiles(r *tunnel.Request) {
	if len(a.cfg.Volumes) == 0 {
		_ = r.Refuse(tunnel.Unknown, "this agent has no volumes of its pod")
		return
	}
	defer a.readers.n.Add(-1)
	if a.readers.n.Add(1) > maxReaders {
		_ = r.Refuse(tunnel.Denied, "too many read files already")
		return
	}
	flow, err := r.Accept()
	if err != nil {
		return
	}
	if err := files.Serve(flow, a.cfg.Volumes); err != nil {
		a.cfg.Log.Debug("files are not read any more", "err", err)
	}
}

// serveSocket joins the flow to a UNIX socket in the pod's volumes.
func (a *Agent) serveSocket(r *tunnel.Request) {
	var request api.SocketRequest
	if err := json.Unmarshal(r.Target().Meta, &request); err != nil {
		_ = r.Refuse(tunnel.Unknown, notUnderstood+err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.DialTimeout)
	conn, err := files.DialSocket(ctx, a.cfg.Volumes, request.Path)
	cancel()
	if err != nil {
		_ = r.Refuse(reasonOf(err), err.Error())
		return
	}
	flow, err := r.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	if _, err := splice.Splice(context.Background(), flow, conn); err != nil {
		a.cfg.Log.Debug("flow ended", "socket", request.Path, "err", err)
	}
}

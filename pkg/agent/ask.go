package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// maxInfo bounds what AskInfo reads.
const maxInfo = 1 << 20

// AskInfo asks the agent at the other end of a tunnel for its Info.
func AskInfo(ctx context.Context, t *tunnel.Tunnel) (Info, error) {
	var info Info
	flow, err := t.Open(ctx, tunnel.Target{Network: NetworkService, Address: ServiceInfo})
	if err != nil {
		return info, err
	}
	defer func() { _ = flow.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = flow.Close() })
	defer stop()
	if err := json.NewDecoder(io.LimitReader(flow, maxInfo)).Decode(&info); err != nil {
		return info, fmt.Errorf("read what the agent says about itself: %w", err)
	}
	return info, nil
}

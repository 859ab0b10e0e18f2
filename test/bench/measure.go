//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/netsim"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// measure runs everything: first straight to the API server, then through a
// relay that adds round trips.
func measure(ctx context.Context, world *rig.Rig, s settings, say func(string)) (report Report, err error) {
	apps := []manifests.App{
		manifests.HTTP(appName, manifests.Options{Replicas: 1, Args: []string{"-tunnel", fmt.Sprintf("127.0.0.1:%d", tunnelPort)}}),
		manifests.UDP(udpName, manifests.Options{Replicas: 1, ServicePort: 7}),
		manifests.HTTP(clientName, manifests.Options{Replicas: 1, NoService: true}),
	}
	if err := world.Deploy(ctx, apps...); err != nil {
		return report, err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyLimit)
		defer cancel()
		err = errors.Join(err, world.Remove(end, apps...))
	}()
	report = Report{Date: time.Now().UTC(), Bytes: s.bytes, Rounds: s.rounds}
	if report.Machine, err = machine(s.version); err != nil {
		return report, err
	}
	if slices.Contains(s.rtts, 0) {
		if err := near(ctx, world, s, say, &report); err != nil {
			return report, err
		}
	}
	if rtts := slices.DeleteFunc(slices.Clone(s.rtts), func(rtt int) bool { return rtt == 0 }); len(rtts) > 0 {
		if err := far(ctx, world, s, say, rtts, &report); err != nil {
			return report, err
		}
	}
	report.Aims = aims(report)
	return report, nil
}

// near measures what needs no relay.
func near(ctx context.Context, world *rig.Rig, s settings, say func(string), report *Report) (err error) {
	desk, err := world.Desk(ctx, "bench", "alice")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, desk.Close(context.WithoutCancel(ctx))) }()
	defer func() { err = errors.Join(err, quit(ctx, desk)) }()
	b, err := newStage(ctx, s, desk, say)
	if err != nil {
		return err
	}
	if s.rows.MatchString(rowStart) {
		row, err := b.startToFirstAnswer(ctx)
		if err != nil {
			return err
		}
		report.Rows = append(report.Rows, row)
	}
	if s.rows.MatchString(rowRoutes) {
		if err := b.routes(ctx, report); err != nil {
			return err
		}
		if b, err = newStage(ctx, s, desk, say); err != nil { // of the pod that is there now
			return err
		}
	}
	if err := b.up(ctx); err != nil {
		return err
	}
	defer b.down()
	if s.ends {
		if err := b.needs(ctx, report, whenIdle); err != nil {
			return err
		}
	}
	report.Rows = append(report.Rows, b.rows(ctx, 0, s.bytes)...)
	if !s.ends {
		return nil
	}
	if err := b.needs(ctx, report, "idle, after all that"); err != nil {
		return err
	}
	for _, n := range []int{1_000, 10_000} {
		if err := b.idleFlows(ctx, report, n); err != nil {
			return err
		}
	}
	report.Figures, err = b.deadlines(ctx)
	return err
}

// far measures what a round trip changes.
func far(ctx context.Context, world *rig.Rig, s settings, say func(string), rtts []int, report *Report) (err error) {
	desk, err := world.Desk(ctx, "benchfar", "alice")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, desk.Close(context.WithoutCancel(ctx))) }()
	relay, err := desk.Relay(ctx, netsim.Link{})
	if err != nil {
		return err
	}
	defer func() { _ = relay.Close() }()
	defer func() { err = errors.Join(err, quit(ctx, desk)) }()
	b, err := newStage(ctx, s, desk, say)
	if err != nil {
		return err
	}
	if err := b.up(ctx); err != nil {
		return err
	}
	defer b.down()
	for _, rtt := range rtts {
		relay.Set(netsim.Link{Delay: time.Duration(rtt) * time.Millisecond / 2})
		report.Rows = append(report.Rows, b.rows(ctx, rtt, max(s.bytes/4, 1<<20))...)
	}
	relay.Set(netsim.Link{})
	return nil
}

// quit ends the session, and with it its agent's pod.
func quit(ctx context.Context, desk *rig.Desk) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyLimit)
	defer cancel()
	return must(desk.Tele(ctx, "quit", "--all"))
}

// rows measures every row at one round trip.
func (b *stage) rows(ctx context.Context, rtt int, bytes int64) (rows []Row) {
	bulk := []Way{Tele, PortForward, Tunnel, Bare}
	for _, row := range []struct {
		name, unit string
		ways       []Way
		f          func(context.Context, Way) (float64, error)
	}{
		{rowDown, "MB/s", Ways, func(ctx context.Context, w Way) (float64, error) { return b.bulk(ctx, w, 1, bytes, b.download) }},
		{rowDownMany, "MB/s", bulk, func(ctx context.Context, w Way) (float64, error) { return b.bulk(ctx, w, many, bytes, b.download) }},
		{rowUp, "MB/s", Ways, func(ctx context.Context, w Way) (float64, error) { return b.bulk(ctx, w, 1, bytes, b.upload) }},
		{rowUpMany, "MB/s", bulk, func(ctx context.Context, w Way) (float64, error) { return b.bulk(ctx, w, many, bytes, b.upload) }},
		{rowSmall, "ms", bulk, func(ctx context.Context, w Way) (float64, error) { return b.latency(ctx, w, 0.5) }},
		{rowSmallMany, "req/s", bulk, func(ctx context.Context, w Way) (float64, error) { return b.requests(ctx, w, many, false) }},
		{rowNew, "conn/s", bulk, func(ctx context.Context, w Way) (float64, error) { return b.requests(ctx, w, 1, true) }},
		{rowNewMany, "conn/s", bulk, func(ctx context.Context, w Way) (float64, error) { return b.requests(ctx, w, many, true) }},
		{rowTail, "ms", bulk, func(ctx context.Context, w Way) (float64, error) { return b.latency(ctx, w, 0.99) }},
		{rowMedianBulk, "ms", bulk, func(ctx context.Context, w Way) (float64, error) { return b.duringBulk(ctx, w, 0.5) }},
		{rowTailBulk, "ms", bulk, func(ctx context.Context, w Way) (float64, error) { return b.duringBulk(ctx, w, 0.99) }},
	} {
		if !b.settings.rows.MatchString(row.name) {
			continue
		}
		b.say(fmt.Sprintf("%s, round trip + %d ms", row.name, rtt))
		r := Row{Name: row.name, Unit: row.unit, RTT: rtt, Values: map[Way]float64{}, Errors: map[Way]string{}}
		b.compare(ctx, &r, row.ways, row.f)
		rows = append(rows, r)
	}
	return rows
}

// compare measures all ways in turns and takes the medians. A way that fails
// has no value.
func (b *stage) compare(ctx context.Context, row *Row, ways []Way, f func(context.Context, Way) (float64, error)) {
	values := make(map[Way][]float64)
	for range b.rounds {
		for _, w := range ways {
			if row.Errors[w] != "" || !b.ways.MatchString(string(w)) {
				continue
			}
			v, err := limited(ctx, func(ctx context.Context) (float64, error) { return f(ctx, w) })
			if err != nil {
				b.say(fmt.Sprintf("%s: %s: %v", row.Name, w, err))
				row.Errors[w] = err.Error()
			}
			values[w] = append(values[w], v)
		}
	}
	for w, v := range values {
		if row.Errors[w] == "" {
			row.Values[w] = quantile(v, 0.5)
		}
	}
}

// turnLimit bounds one measurement of one way.
const turnLimit = 2 * time.Minute

func limited(ctx context.Context, f func(context.Context) (float64, error)) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, turnLimit)
	defer cancel()
	return f(ctx)
}

// quantile is the value that q of all do not exceed.
func quantile(v []float64, q float64) float64 {
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

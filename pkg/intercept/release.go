package intercept

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// release takes owners out of the records of a workload and its Services and,
// when nobody is left, puts back what the records say: the Services first, then,
// when no new connection reaches the agents any more, the workload. What it
// decides it decides on each object as it is when it is written; when others have
// changed the picture meanwhile, it starts over.
type release struct {
	cluster *cluster.Cluster
	ref     workload.Ref
	// takes reports whether an owner is to be taken out whatever the agents say.
	// Lost owners are taken out in any case.
	takes    func(o inject.Owner) bool
	agents   *cluster.Agents // nil: run gets them itself where there are any
	progress api.Progress

	switched time.Time // when a Service was given back last

	// What the agents said in this round, and whom they were asked about: an
	// owner who has come since cannot be judged by it.
	census cluster.Census
	asked  map[string]bool // by the ID of the intercept
}

// errChanged means that what a round was built on is not so any more.
var errChanged = errors.New("others kept changing it meanwhile")

// maxRounds bounds starting over.
const maxRounds = 10

// run carries the release out. It survives an API server that does not answer for
// a while, until ctx ends.
func (r *release) run(ctx context.Context) error {
	for range maxRounds {
		err := r.persist(ctx, r.round)
		if !errors.Is(err, errChanged) {
			return err
		}
		r.cluster.Log().Info("undo starts over: the owners have changed", "workload", r.ref.String())
	}
	return fmt.Errorf("%s: %w", r.ref, errChanged)
}

// refusalGrace is how long a refusal is taken for that of an API server that has
// just been started, which forbids everything for a moment.
const refusalGrace = 15 * time.Second

// persist repeats step while it fails for reasons that may pass.
func (r *release) persist(ctx context.Context, step func(context.Context) error) error {
	var refused time.Time // since when the server has refused
	passes := func(err error) bool {
		if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
			refused = time.Time{}
			return cluster.MayPass(err)
		}
		if refused.IsZero() {
			refused = time.Now()
		}
		return time.Since(refused) < refusalGrace
	}
	backoff := wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 5}
	for {
		err := step(ctx)
		if err == nil || ctx.Err() != nil || !passes(err) {
			return err
		}
		r.cluster.Log().Warn("undo did not get on, trying again", "workload", r.ref.String(), "err", err)
		r.progress.Doing("the cluster does not answer, trying again: " + err.Error())
		select {
		case <-time.After(backoff.Step()):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// round is one attempt from the beginning.
func (r *release) round(ctx context.Context) error {
	w, err := r.read(ctx)
	if err != nil {
		return err
	}
	if w == nil {
		services, err := r.leading(ctx, nil)
		if err != nil {
			return err
		}
		return r.services(ctx, nil, services)
	}
	if r.agents == nil && inject.Injected(w) {
		if r.agents, err = r.cluster.Agents(w); err != nil {
			return err
		}
		defer func() {
			r.agents.Close()
			r.agents = nil
		}()
	}
	services, err := r.leading(ctx, w)
	if err != nil {
		return err
	}
	r.ask(ctx, w, services)
	last, err := r.lastOut(w)
	if err != nil {
		return err
	}
	if err := r.services(ctx, w, services); err != nil {
		return err
	}
	if last && r.ledHere(w) {
		r.progress.Doing("waiting until no new connection reaches the agents")
		from := r.switched
		if from.IsZero() { // another may have given one back a moment ago
			from = time.Now()
		}
		if err := waitQuiet(ctx, r.agents, namedPorts(w), from.Add(quietFor)); err != nil {
			return err
		}
		// A laptop that was away may be back.
		r.ask(ctx, w, services)
	}
	return r.workload(ctx, w, last)
}

// ledHere reports whether Services may have led to the agents by their number
// lately: this release gave one back, in this round or an earlier one, or somebody
// else may have.
func (r *release) ledHere(w *workload.Workload) bool {
	return !r.switched.IsZero() || slices.ContainsFunc(inject.CapturesIn(w), func(c inject.Capture) bool { return c.Name == "" })
}

// ask asks the agents about the owners in these objects' records.
func (r *release) ask(ctx context.Context, w *workload.Workload, services []corev1.Service) {
	r.asked = map[string]bool{}
	note := func(obj workload.Object) {
		owners, _ := inject.Owners(obj) // a record that cannot be read names nobody
		for _, o := range owners {
			r.asked[o.ID] = true
		}
	}
	note(w.Object)
	for i := range services {
		note(&services[i])
	}
	r.census = cluster.Census{}
	if r.agents != nil {
		r.census = r.agents.Ask(ctx)
	}
}

// drops reports whether an owner is to be taken out. w is the workload as it is
// now, nil when it is no more: then nobody needs anything of it.
func (r *release) drops(w *workload.Workload, o inject.Owner) bool {
	return w == nil || r.takes(o) || r.asked[o.ID] && standingOf(w, o, r.census).standing == lost
}

// read returns the workload as it is now, nil when there is none.
func (r *release) read(ctx context.Context) (*workload.Workload, error) {
	ctx, cancel := cluster.RequestContext(ctx)
	defer cancel()
	kind, err := r.cluster.Kinds().Of(r.ref)
	if err != nil {
		return nil, err
	}
	obj, err := kind.Store(r.cluster.Client(), r.cluster.Namespace()).Get(ctx, r.ref.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", r.ref, err)
	}
	return kind.View(obj), nil
}

// lastOut reports whether nobody is left in the workload's record. A damaged
// record names nobody to keep the agent for; a newer one must not be touched.
func (r *release) lastOut(w *workload.Workload) (bool, error) {
	owners, err := inject.Owners(w.Object)
	if errors.Is(err, inject.ErrNewer) {
		return false, err
	}
	return !slices.ContainsFunc(owners, func(o inject.Owner) bool { return !r.drops(w, o) }), nil
}

// without returns obj without the owners that are to be taken out. kept reports
// whether others are left, for whose sake the change of the object stays.
func (r *release) without(w *workload.Workload, obj workload.Object) (kept bool, out workload.Object, err error) {
	owners, err := inject.Owners(obj)
	if errors.Is(err, inject.ErrNewer) {
		return false, nil, err
	}
	if err != nil || !slices.ContainsFunc(owners, func(o inject.Owner) bool { return !r.drops(w, o) }) {
		return false, nil, nil
	}
	out = obj
	for _, o := range owners {
		if !r.drops(w, o) {
			continue
		}
		if out, _, err = inject.RemoveOwner(out, o.Session, o.ID); err != nil {
			return false, nil, err
		}
	}
	return true, out, nil
}

// workload takes owners out of the workload's record or, if nobody is left, the agent out of its pods. It returns errChanged when nobody is
// left though the Services were not looked at with that in mind.
func (r *release) workload(ctx context.Context, w *workload.Workload, last bool) error {
	var leftovers []string
	var undone bool
	store := w.Kind.Store(r.cluster.Client(), r.cluster.Namespace())
	before, after, err := inject.Retry(ctx, store, r.ref, func(now workload.Object) (workload.Object, error) {
		undone, leftovers = false, nil
		view := w.Kind.View(now)
		kept, left, err := r.without(view, now)
		if err != nil || kept {
			return left, err
		}
		if !last {
			return nil, errChanged
		}
		undone = true
		out, lines, err := inject.Undo(view)
		if err != nil {
			return nil, err
		}
		leftovers = lines
		return out.Object, nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case !undone:
		r.progress.Done("other intercepts use the agent of " + r.ref.String() + ": it stays for them; `kubectl tele list -o wide` shows whose")
		return nil
	}
	for _, line := range leftovers {
		r.progress.Warn(line)
	}
	return r.settle(ctx, w.Kind.View(before), w.Kind.View(after))
}

// settle waits until the pods with the agent are gone, and deletes the revisions
// that would bring it back.
func (r *release) settle(ctx context.Context, before, after *workload.Workload) error {
	changed := func() <-chan struct{} { return nil }
	if r.agents != nil {
		changed = r.agents.Changed
	}
	if inject.Restarts(before, after) || after.State.Rolling() {
		r.progress.Doing("rolling update of " + r.ref.String())
		if err := r.unstall(ctx, after); err != nil {
			return err
		}
		if err := waitRollout(ctx, r.cluster, after, changed, r.progress); err != nil {
			return fmt.Errorf("the agent is taken out of %s, but: %w", r.ref, err)
		}
	}
	// The update may be of a round before, or of somebody else's.
	if err := waitReplaced(ctx, r.cluster, after, changed, hasAgent, r.progress); err != nil {
		return err
	}
	// Somebody may have begun anew meanwhile, whose revision is not to be deleted.
	now, err := r.read(ctx)
	if err != nil || now == nil {
		return err
	}
	if _, err := inject.DeleteRevisions(ctx, r.cluster.Client(), now); err != nil {
		return err
	}
	r.progress.Done(r.ref.String() + " is as it was")
	return nil
}

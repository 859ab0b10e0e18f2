package workload

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// maxListed is how many names a hint lists.
const maxListed = 8

// Get reads the workload that ref names. When there is none the error wraps the
// API's NotFound and its hint lists the names that come nearest.
func (ks Kinds) Get(ctx context.Context, client kubernetes.Interface, ns string, ref Ref) (*Workload, error) {
	kind, err := ks.Of(ref)
	if err != nil {
		return nil, err
	}
	obj, err := kind.Store(client, ns).Get(ctx, ref.Name)
	switch {
	case err == nil:
		return kind.View(obj), nil
	case apierrors.IsNotFound(err):
		return nil, &hint.Error{
			Fact: fmt.Sprintf("there is no %s in namespace %s", ref, ns),
			Mend: cmp.Or(ks.otherKind(ctx, client, ns, ref), available(ctx, client, ns, kind, ref.Name)),
			Err:  err,
		}
	case apierrors.IsForbidden(err):
		return nil, &hint.Error{
			Fact: fmt.Sprintf("reading %s in namespace %s is not allowed: %v", ref, ns, err),
			Mend: fmt.Sprintf("the right to get %s in namespace %s is missing; -n chooses another namespace", kind.Resource(), ns),
			Err:  err,
		}
	}
	return nil, fmt.Errorf("reading %s in namespace %s: %w", ref, ns, err)
}

// otherKind is the hint for a name that is a workload of another kind, "" if it is none.
func (ks Kinds) otherKind(ctx context.Context, client kubernetes.Interface, ns string, ref Ref) string {
	for _, k := range ks {
		other := Ref{Kind: k.Resource().Singular, Name: ref.Name}
		if other == ref {
			continue
		}
		if _, err := k.Store(client, ns).Get(ctx, ref.Name); err == nil {
			return fmt.Sprintf("did you mean %s?", other)
		}
	}
	return ""
}

// available is the hint for a name that does not exist.
func available(ctx context.Context, client kubernetes.Interface, ns string, kind Kind, name string) string {
	objects, err := ListAll(ctx, kind.Store(client, ns), metav1.ListOptions{Limit: 500})
	if err != nil {
		return "-n chooses another namespace"
	}
	names := make([]string, 0, len(objects))
	for _, obj := range objects {
		names = append(names, obj.GetName())
	}
	return choices(kind.Resource().Title, ns, name, names)
}

// choices is the hint for a name that is none of those that there are.
func choices(title, ns, name string, names []string) string {
	if len(names) == 0 {
		return fmt.Sprintf("namespace %s has no %ss; -n chooses another namespace", ns, title)
	}
	if near := similar(name, names); len(near) > 0 {
		return fmt.Sprintf("did you mean %s?", strings.Join(near, " or "))
	}
	slices.Sort(names)
	more := ""
	if len(names) > maxListed {
		more = fmt.Sprintf(" and %d more", len(names)-maxListed)
		names = names[:maxListed]
	}
	return fmt.Sprintf("%ss in namespace %s: %s%s", title, ns, strings.Join(names, ", "), more)
}

// similar returns at most three of names that contain want, are contained in
// it, or differ from it by a slip of the fingers, the nearest first.
func similar(want string, names []string) []string {
	type scored struct {
		name  string
		score int
	}
	slips := 1
	if len(want) > 3 {
		slips = max(2, len(want)/4) // two letters swapped are two slips
	}
	var found []scored
	for _, n := range names {
		d := distance(want, n)
		switch {
		case d <= slips:
			found = append(found, scored{n, d})
		case strings.Contains(n, want) || strings.Contains(want, n):
			found = append(found, scored{n, 100 + d})
		}
	}
	slices.SortFunc(found, func(a, b scored) int {
		if a.score != b.score {
			return a.score - b.score
		}
		return strings.Compare(a.name, b.name)
	})
	near := make([]string, 0, 3)
	for _, f := range found[:min(3, len(found))] {
		near = append(near, f.name)
	}
	return near
}

// distance is the number of letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// maxListed is how many names a hint lists.
const maxListed = 8

// Get reads the Deployment that ref names. When there is none the error wraps
// the API's NotFound and its hint lists the names that come nearest.
func Get(ctx context.Context, client kubernetes.Interface, ns string, ref Ref) (*appsv1.Deployment, error) {
	dep, err := client.AppsV1().Deployments(ns).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case err == nil:
		return dep, nil
	case apierrors.IsNotFound(err):
		return nil, &Error{
			Fact: fmt.Sprintf("there is no %s in namespace %s", ref, ns),
			Mend: available(ctx, client, ns, ref.Name),
			Err:  err,
		}
	case apierrors.IsForbidden(err):
		return nil, &Error{
			Fact: fmt.Sprintf("reading %s in namespace %s is not allowed: %v", ref, ns, err),
			Mend: fmt.Sprintf("the right to get deployments.apps in namespace %s is missing; -n chooses another namespace", ns),
			Err:  err,
		}
	}
	return nil, fmt.Errorf("reading %s in namespace %s: %w", ref, ns, err)
}

// available is the hint for a name that does not exist.
func available(ctx context.Context, client kubernetes.Interface, ns, name string) string {
	list, err := client.AppsV1().Deployments(ns).List(ctx, metav1.ListOptions{Limit: 500})
	if err != nil {
		return "-n chooses another namespace"
	}
	if len(list.Items) == 0 {
		return fmt.Sprintf("namespace %s has no Deployments; -n chooses another namespace", ns)
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
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
	return fmt.Sprintf("Deployments in namespace %s: %s%s", ns, strings.Join(names, ", "), more)
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

package workload

import (
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/fake"
)

// TestParse: what users of kubectl write. One kind alone is known.
func TestParse(t *testing.T) {
	back := Ref{Kind: "deployment", Name: "back"}
	for _, tc := range []struct {
		in   string
		want Ref
		err  string
		hint string
	}{
		{in: "back", want: back},
		{in: "deploy/back", want: back},
		{in: "deployment/back", want: back},
		{in: "Deployments/back", want: back},
		{in: "deployments.apps/back", want: back},
		{in: "deployment.v1.apps/back", want: back},
		{in: "back.v2", want: Ref{Kind: "deployment", Name: "back.v2"}},
		{in: "", err: `"" is not the name`, hint: "deployment/back"},
		{in: "deploy/", err: `"" is not the name`},
		{in: "Back", err: `"Back" is not the name`},
		{in: "deploy/a/b", err: `"a/b" is not the name`},
		{in: "svc/back", err: "svc/back is a Service", hint: "deployment/NAME"},
		{in: "sts/store", want: Ref{Kind: "statefulset", Name: "store"}},
		{in: "daemonsets.apps/node", want: Ref{Kind: "daemonset", Name: "node"}},
		{in: "job/store", err: `kind "job" cannot be intercepted`, hint: "deploy/NAME"},
		{in: "pod/back-1", err: `kind "pod" cannot`, hint: "a Deployment or StatefulSet or DaemonSet can"},
		{in: "/back", err: `kind "" cannot`},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := AllKinds().Parse(tc.in)
			if tc.err == "" {
				if err != nil || got != tc.want {
					t.Fatalf("got %v, %v; want %v", got, err, tc.want)
				}
				return
			}
			wantError(t, err, tc.err, tc.hint)
		})
	}
}

// stores is a second kind, whose objects are Deployments all the same.
type stores struct{ Deployments }

func (stores) Resource() Resource {
	return Resource{Group: "shop.io", Version: "v1beta1", Title: "Store", Singular: "store", Plural: "stores", Short: "sto"}
}

func (s stores) View(obj Object) *Workload {
	w := s.Deployments.View(obj)
	w.Kind, w.Ref = s, Ref{Kind: "store", Name: w.Name}
	return w
}

// TestParseOfTwoKinds: each is meant by its own words, a name alone means the
// first.
func TestParseOfTwoKinds(t *testing.T) {
	back, store := Ref{Kind: "deployment", Name: "back"}, Ref{Kind: "store", Name: "back"}
	for _, tc := range []struct {
		in    string
		kinds Kinds
		want  Ref
		err   string
		hint  string
	}{
		{in: "back", want: back},
		{in: "back", kinds: Kinds{stores{}, Deployments{}}, want: store},
		{in: "deploy/back", want: back},
		{in: "sto/back", want: store},
		{in: "Store/back", want: store},
		{in: "stores/back", want: store},
		{in: "stores.shop.io/back", want: store},
		{in: "store.v1beta1.shop.io/back", want: store},
		{in: "stores.v1beta1.shop.io/back", want: store},
		{in: "stores.apps/back", err: `kind "stores.apps" cannot be intercepted`},
		{in: "store.v1.shop.io/back", err: `kind "store.v1.shop.io" cannot`},
		{in: "stores.v1beta1/back", err: `kind "stores.v1beta1" cannot`},
		{in: "sto/", err: `"" is not the name`, hint: "name a Deployment or Store, as in back or deployment/back"},
		{in: "services/back", err: "services/back is a Service", hint: "name the Deployment or Store behind it"},
		{in: "pod/back-1", err: `kind "pod" cannot`, hint: "a Deployment or Store can: NAME, deploy/NAME, deployment/NAME or deployments.apps/NAME"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			kinds := tc.kinds
			if kinds == nil {
				kinds = Kinds{Deployments{}, stores{}}
			}
			got, err := kinds.Parse(tc.in)
			if tc.err != "" {
				wantError(t, err, tc.err, tc.hint)
				return
			}
			if err != nil || got != tc.want {
				t.Fatalf("got %v, %v; want %v", got, err, tc.want)
			}
			if k, err := kinds.Of(got); err != nil || k.Resource().Singular != got.Kind {
				t.Errorf("%s is of kind %v, %v", got, k, err)
			}
			if again, err := kinds.Parse(got.String()); err != nil || again != got {
				t.Errorf("%s is read as %v, %v", got, again, err)
			}
		})
	}
}

// TestKindNotKnown: records name kinds that only a newer program knows.
func TestKindNotKnown(t *testing.T) {
	_, err := AllKinds().Get(t.Context(), fake.NewClientset(), "shop", Ref{Kind: "store", Name: "back"})
	wantError(t, err, "store/back is of no kind that this program knows", "")
}

func TestListOfKinds(t *testing.T) {
	client := fake.NewClientset(named("back"), named("front"))
	all, err := (Kinds{Deployments{}, stores{}}).List(t.Context(), client, "shop")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range all {
		names = append(names, w.String())
	}
	if want := []string{"deployment/back", "deployment/front", "store/back", "store/front"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	forbidList(client, "deployments")
	if all, err := (Kinds{Deployments{}, StatefulSets{}}).List(t.Context(), client, "shop"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "listing Deployments in namespace shop") {
		t.Errorf("got %v, %v", all, err)
	}
	if err := client.Tracker().Add(statefulSet()); err != nil {
		t.Fatal(err)
	}
	if all, err := AllKinds().List(t.Context(), client, "shop"); err != nil || len(all) != 1 || all[0].String() != "statefulset/db" {
		t.Errorf("with what may be listed: %v, %v", all, err)
	}
	_, err = AllKinds().Get(t.Context(), client, "shop", Ref{Kind: "deployment", Name: "db"})
	wantError(t, err, "there is no deployment/db", "did you mean statefulset/db?")
}

// wantError checks an error's text and hint by parts of them.
func wantError(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want one with %q", err, text)
	}
	if hint == "" {
		return
	}
	h, ok := err.(interface{ Hint() string })
	if !ok || !strings.Contains(h.Hint(), hint) {
		t.Fatalf("error %#v, want a hint with %q", err, hint)
	}
}

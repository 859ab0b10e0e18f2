package inject

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

func TestOwners(t *testing.T) {
	dep := sidecar(t, back(t), specOf(byName))
	both, err := AddOwner(dep, bob(8080))
	if err != nil {
		t.Fatal(err)
	}
	if restarts(dep, both.(*appsv1.Deployment)) {
		t.Error("an owner restarts the pods")
	}
	seen := bob(8080)
	seen.LastSeen = &since
	again, err := AddOwner(both, seen)
	if err != nil {
		t.Fatal(err)
	}
	if owners, err := Owners(again); err != nil || len(owners) != 2 || owners[1].LastSeen == nil {
		t.Errorf("owners %v, %v", owners, err)
	}
	second := alice(9090)
	second.ID = "i3"
	if more, err := AddOwner(again, second); err != nil {
		t.Error(err)
	} else if owners, err := Owners(more); err != nil || len(owners) != 3 {
		t.Errorf("a second intercept of a session: %v, %v", owners, err)
	}
	rest, left, err := RemoveOwner(again, "s-alice", "")
	if err != nil || len(left) != 1 || left[0].Session != "s-bob" {
		t.Fatalf("left %v, %v", left, err)
	}
	if _, left, err := RemoveOwner(rest, "s-bob", "other"); err != nil || len(left) != 1 {
		t.Errorf("another intercept's owner went: %v, %v", left, err)
	}
	if _, left, err := RemoveOwner(rest, "s-bob", "i2"); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if owners, err := Owners(dep); err != nil || len(owners) != 1 {
		t.Errorf("the input was changed: %v, %v", owners, err)
	}
	if _, err := AddOwner(back(t), bob(8080)); err == nil {
		t.Error("an owner was added to nothing")
	}
	if out, left, err := RemoveOwner(back(t), "s", ""); err != nil || len(left) > 0 || out == nil {
		t.Errorf("of nothing: %v, %v", left, err)
	}
	dep.Annotations[AnnotationUndo] = "{"
	if _, _, err := RemoveOwner(dep, "s", ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

package inject

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// wantUpgrade checks that an error is about a newer record and tells users to
// upgrade, not to clean.
func wantUpgrade(t *testing.T, what string, err error) {
	t.Helper()
	var mendable *hint.Error
	if !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) || !errors.As(err, &mendable) {
		t.Errorf("%s: got %v", what, err)
		return
	}
	if !strings.Contains(mendable.Hint(), "krew upgrade tele") || strings.Contains(mendable.Hint(), "clean") {
		t.Errorf("%s: hint %q", what, mendable.Hint())
	}
}

// newerRecords makes records of newer versions of a record of ours.
func newerRecords() map[string]func(string) string {
	with := func(field string) func(string) string {
		return func(record string) string { return strings.TrimSuffix(record, "}") + "," + field + "}" }
	}
	return map[string]func(string) string{
		"version":         func(record string) string { return strings.Replace(record, `"version":1`, `"version":2`, 1) },
		"another shape":   func(string) string { return `{"version":99,"workload":{"is":"this"},"changes":"many"}` },
		"field":           with(`"proxy":{"mode":"tproxy"}`),
		"field with null": with(`"proxy":null`),
		"field of a capture": func(record string) string {
			return strings.Replace(record, `"app":8080,`, `"app":8080,"family":"IPv6",`, 1)
		},
		"protocol of a capture": func(record string) string {
			return strings.Replace(record, `"app":8080,`, `"app":8080,"protocol":"sctp",`, 1)
		},
		"field of a change": func(record string) string { return strings.Replace(record, `"path":`, `"kind":"env","path":`, 1) },
		"field of an owner": func(record string) string { return strings.Replace(record, `"user":`, `"team":"store","user":`, 1) },
	}
}

// TestNewerRecord: an object that a newer version has changed in ways that this
// program does not know is left alone, and users are told to upgrade.
func TestNewerRecord(t *testing.T) {
	for name, change := range newerRecords() {
		t.Run(name, func(t *testing.T) {
			ours := sidecar(t, ready(t), specOf(byBoth))
			svc := switched(t, numeric(t), ours, alice(8080))
			newer, newerSvc := ours.DeepCopy(), svc.DeepCopy()
			newer.Annotations[AnnotationUndo] = change(newer.Annotations[AnnotationUndo])
			newerSvc.Annotations[AnnotationUndo] = change(newerSvc.Annotations[AnnotationUndo])
			if newer.Annotations[AnnotationUndo] == ours.Annotations[AnnotationUndo] || newerSvc.Annotations[AnnotationUndo] == svc.Annotations[AnnotationUndo] {
				t.Fatal("the record is as it was")
			}
			input, inputSvc := newer.DeepCopy(), newerSvc.DeepCopy()
			agent, _ := AgentIn(&ours.Spec.Template.Spec)

			undone, _, err := Undo(view(newer))
			wantUpgrade(t, "Undo", err)
			undoneSvc, _, err := UndoService(newerSvc, agent.Captures...)
			wantUpgrade(t, "UndoService", err)
			more, err := AddSidecar(view(newer), specOf(grpcPort))
			wantUpgrade(t, "AddSidecar", err)
			_, err = SwitchService(newerSvc, view(ours), bob(8080))
			wantUpgrade(t, "SwitchService of a newer Service", err)
			_, err = SwitchService(svc, view(newer), bob(8080))
			wantUpgrade(t, "SwitchService for a newer workload", err)
			_, err = AddOwner(newer, bob(8080))
			wantUpgrade(t, "AddOwner", err)
			_, _, err = RemoveOwner(newerSvc, "s-alice", "")
			wantUpgrade(t, "RemoveOwner", err)
			if undone != nil || undoneSvc != nil || more != nil {
				t.Error("there is a result beside the error")
			}
			equal(t, Original(view(newer)).Object, newer)
			equal(t, OriginalService(newerSvc, agent.Captures...), newerSvc)

			c, client := shop(t, newer, newerSvc, &services(t)[0])
			port := &workload.Port{Container: "app", Number: 8080, Name: "http", Services: []workload.ServicePort{{Service: &services(t)[0], Port: services(t)[0].Spec.Ports[0], Named: true}}}
			_, err = Choose(t.Context(), c, Methods(), Request{Target: view(newer), Port: port, Agent: agentOptions(), Owner: bob(8080)})
			wantUpgrade(t, "Plan", err)
			onlyReads(t, client)

			found, err := Find(t.Context(), client, workload.AllKinds(), "shop")
			if err != nil || len(found) != 2 {
				t.Fatalf("found %v, %v", found, err)
			}
			for _, l := range found {
				if l.Record != nil || len(l.Owners) > 0 || !strings.Contains(l.Damaged, "this program knows") || strings.Contains(l.Damaged, "damaged") {
					t.Errorf("found %+v", l)
				}
			}
			onlyReads(t, client)
			equal(t, newer, input)
			equal(t, newerSvc, inputSvc)
		})
	}
}

// TestDamagedRecord: what no version can have written is damaged, whatever else
// it says, and can be cleaned.
func TestDamagedRecord(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                     "",
		"cut":                       `{"version":1,"workload":"deployment/ba`,
		"a list":                    `[]`,
		"no version":                `{"workload":"deployment/back"}`,
		"version 0":                 `{"version":0}`,
		"version below":             `{"version":-1}`,
		"version of another type":   `{"version":"1"}`,
		"null":                      `null`,
		"two":                       `{"version":1}{"version":1}`,
		"changes of another type":   `{"version":1,"changes":"none"}`,
		"port out of range":         `{"version":1,"captures":[{"app":70000}]}`,
		"workload without a kind":   `{"version":1,"workload":"back"}`,
		"broken and with a field":   `{"version":1,"proxy":1,"changes":"none"}`,
		"a field, and then nothing": `{"version":1,"proxy":`,
	} {
		t.Run(name, func(t *testing.T) {
			dep := sidecar(t, ready(t), specOf(byName))
			dep.Annotations[AnnotationUndo] = text
			rec, err := ReadRecord(dep)
			if rec != nil || !errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) {
				t.Fatalf("got %+v, %v", rec, err)
			}
			var mendable *hint.Error
			if _, err := AddSidecar(view(dep), specOf(byName)); !errors.As(err, &mendable) || !strings.Contains(mendable.Hint(), "kubectl tele clean -n shop deployment/back") {
				t.Errorf("got %v", err)
			}
			got, leftovers := undo(t, dep)
			if Injected(view(got)) || len(leftovers) != 1 {
				t.Errorf("leftovers %q", leftovers)
			}
		})
	}
}

// TestRecordOfOldText: this is what earlier versions wrote.
func TestRecordOfOldText(t *testing.T) {
	dep := back(t)
	dep.Annotations[AnnotationUndo] = `{"version":1,"workload":"deployment/back","container":"tele-agent","image":"x","captures":[{"container":"app","app":8080,"listen":15900,"name":"http"}],` +
		`"changes":[{"path":"containers[app].ports[8080/TCP].name","previous":"http","ours":"http-app"}],"owners":[{"user":"alice","host":"laptop","session":"s-alice","since":"2026-11-05T09:30:00Z","id":"i1","port":8080}]}`
	rec, err := ReadRecord(dep)
	if err != nil || rec.Workload != backRef || rec.Owners[0] != alice(8080) || rec.Changes[0].Ours != "http-app" {
		t.Fatalf("got %+v, %v", rec, err)
	}
	text := dep.Annotations[AnnotationUndo]
	if err := rec.write(dep); err != nil || dep.Annotations[AnnotationUndo] != text {
		t.Errorf("it is written as %s, %v", dep.Annotations[AnnotationUndo], err)
	}
}

// TestOwnerOfRecordWithoutWorkload: the record stays readable.
func TestOwnerOfRecordWithoutWorkload(t *testing.T) {
	dep := back(t)
	dep.Annotations[AnnotationUndo] = `{"version":1}`
	out, err := AddOwner(dep, bob(8080))
	if err != nil {
		t.Fatal(err)
	}
	if owners, err := Owners(out); err != nil || len(owners) != 1 {
		t.Errorf("owners %v, %v", owners, err)
	}
}

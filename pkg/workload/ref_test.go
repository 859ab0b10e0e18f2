package workload

import (
	"encoding/json"
	"testing"
)

// TestRefInJSON: a Ref is one word, as the undo records of all versions have it.
func TestRefInJSON(t *testing.T) {
	type holder struct {
		Workload Ref `json:"workload"`
	}
	for _, tc := range []struct {
		ref  Ref
		text string
	}{
		{Ref{Kind: "deployment", Name: "back"}, `{"workload":"deployment/back"}`},
		{Ref{Kind: "statefulset", Name: "back.v2"}, `{"workload":"statefulset/back.v2"}`},
		{Ref{Kind: "rollout", Name: "a-b"}, `{"workload":"rollout/a-b"}`}, // of a kind that is not known here
		{Ref{}, `{"workload":""}`},
	} {
		text, err := json.Marshal(holder{tc.ref})
		if err != nil || string(text) != tc.text {
			t.Errorf("%v: got %s, %v; want %s", tc.ref, text, err, tc.text)
		}
		var got holder
		if err := json.Unmarshal([]byte(tc.text), &got); err != nil || got.Workload != tc.ref {
			t.Errorf("%s: got %v, %v", tc.text, got.Workload, err)
		}
	}
	for _, text := range []string{"back", "/", "/back", "deployment/"} {
		ref := Ref{Kind: "deployment", Name: "before"}
		if err := ref.UnmarshalText([]byte(text)); err == nil || ref.Name != "before" {
			t.Errorf("%q was read as %v", text, ref)
		}
	}
}

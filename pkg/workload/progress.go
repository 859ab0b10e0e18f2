package workload

import "fmt"

// Progress is how far a rollout is.
type Progress struct {
	Want      int32
	Updated   int32  // pods of the new kind
	Ready     int32  // of these, available
	Old       int32  // pods of the old kind that are still to go
	Ending    int    // pods that have been told to stop and drain
	Waiting   string // for what, in a user's words; "" when done
	Completed bool
}

// String is one line.
func (p Progress) String() string {
	if p.Completed {
		return fmt.Sprintf("%d of %d pods ready", p.Ready, p.Want)
	}
	return fmt.Sprintf("%d of %d new pods ready, %d old: waiting for %s", p.Ready, p.Want, p.Old, p.Waiting)
}

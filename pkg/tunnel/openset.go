package tunnel

// maxMissing is how many numbers below the highest may be missing: more opens
// cannot be under way on the other lanes of an honest peer.
const maxMissing = 8192

// openSet is the numbers of the flows that the peer has opened. Numbers ascend
// on one lane; an OPEN on another may come later than those after it.
type openSet struct {
	highest uint32
	missing map[uint32]struct{} // below highest
}

// add reports whether the number may come now; even is whether the peer's
// numbers are.
func (s *openSet) add(id uint32, even bool) bool {
	if id <= s.highest {
		_, missing := s.missing[id]
		delete(s.missing, id)
		return missing
	}
	next := s.highest + 2
	if s.highest == 0 && !even {
		next = 1
	}
	if uint64(id-next)/2+uint64(len(s.missing)) > maxMissing {
		return false
	}
	for ; next < id; next += 2 {
		if s.missing == nil {
			s.missing = make(map[uint32]struct{})
		}
		s.missing[next] = struct{}{}
	}
	s.highest = id
	return true
}

// has reports whether the number has come.
func (s *openSet) has(id uint32) bool {
	_, missing := s.missing[id]
	return id <= s.highest && !missing
}

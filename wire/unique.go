package wire

// nameSet notices a member name that an object has twice. It keeps the names it is given. The zero value is empty.
type nameSet struct {
	few  [16][]byte
	n    int
	many map[string]struct{} // instead, once there are more
}

// add reports whether name is new.
func (s *nameSet) add(name []byte) bool {
	if s.many != nil {
		_, had := s.many[string(name)]
		s.many[string(name)] = struct{}{}
		return !had
	}
	for _, other := range s.few[:s.n] {
		if len(other) == len(name) && string(other) == string(name) {
			return false
		}
	}
	if s.n == len(s.few) {
		s.many = make(map[string]struct{}, 4*len(s.few))
		for _, other := range s.few {
			s.many[string(other)] = struct{}{}
		}
		s.many[string(name)] = struct{}{}
		return true
	}
	s.few[s.n] = name
	s.n++
	return true
}

// skipUnique passes over one value of any type, checking that no object in it has a member twice.
func (s *scanner) skipUnique() {
	switch s.peek() {
	case '{':
		var names nameSet
		for name := range s.members {
			if !names.add(name) {
				s.fail(twice)
				return
			}
			s.skipUnique()
		}
	case '[':
		for range s.elements {
			s.skipUnique()
		}
	default:
		s.skip()
	}
}

// checkUnique checks of a document that was read to its end that none of its objects has a member twice.
func (d *decoder) checkUnique() error {
	s := scanner{b: d.b}
	if s.skipUnique(); s.failed() {
		return d.bad("%s", s.reason())
	}
	return nil
}

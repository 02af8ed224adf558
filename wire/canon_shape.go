package wire

// shape is how the members of the last object were named and sorted. Rows of one table come with the same members in the
// same order, so that their names are compared with what is known and neither read nor sorted again. It serves
// objects without white space whose names are plain and whose values are no objects or arrays; any other object is
// read in the general way.
type shape struct {
	names   [][]byte // as they stand in the document, with quotes and colon
	spelled [][]byte // in canonical order and form, with what comes before and the colon after
	order   []int    // positions in the document, in canonical order
	values  []node   // scratch
	missed  int      // objects in a row that were of another shape
}

// maxShape bounds what is remembered: members, and bytes of a name.
const maxShape = 100

// familiar appends the canonical form of an object of the remembered shape. False when it is of another one, or has a
// fault, which the general way tells.
func (c *canonicaliser) familiar(dst, object []byte) ([]byte, bool) {
	k, s := &c.shape, &c.s
	if len(k.names) == 0 || len(object) == 0 || object[0] != '{' {
		return dst, false
	}
	s.i = 1
	for m, name := range k.names {
		if m > 0 {
			if s.i == len(object) || object[s.i] != ',' {
				return dst, false
			}
			s.i++
		}
		rest := object[s.i:]
		if len(rest) <= len(name) || string(rest[:len(name)]) != string(name) {
			return dst, false
		}
		s.i += len(name)
		v := &k.values[m]
		switch b := rest[len(name)]; b {
		case '"':
			*v = node{kind: '"', text: s.text()}
		case 't', 'f', 'n':
			*v = node{kind: 'l', text: s.skip()}
		default:
			if b != '-' && b-'0' > 9 {
				return dst, false
			}
			text, integer := s.number()
			*v = node{kind: 'n', text: text, escaped: integer}
		}
		if s.failed() {
			return dst, false
		}
	}
	if s.i+1 != len(object) || object[s.i] != '}' {
		return dst, false
	}
	start := len(dst)
	for m, at := range k.order {
		dst = append(dst, k.spelled[m]...)
		switch v := &k.values[at]; v.kind {
		case '"':
			dst = c.dialect.appendString(dst, v.text)
		case 'n':
			var ok bool
			if dst, ok = c.dialect.appendNumber(dst, v.text, v.escaped); !ok {
				return dst[:start], false
			}
		default:
			dst = append(dst, v.text...)
		}
	}
	return append(dst, '}'), true
}

// remember takes the shape of the object that has been read and written without fault. Where the shape changes with every
// object, most of them are let go.
func (c *canonicaliser) remember() {
	k := &c.shape
	k.missed++
	if k.missed > 4 && k.missed%16 != 0 {
		return
	}
	k.names = k.names[:0]
	end := c.nodes[0].next
	n := (end - 1) / 2
	if n > maxShape {
		return
	}
	for i := 1; i < end; i += 2 {
		name := c.nodes[i].text
		if c.nodes[i+1].next != i+2 || len(name) > maxShape || plainRun(name) != len(name) {
			k.names = k.names[:0]
			return
		}
		k.names = longer(k.names)
		at := &k.names[len(k.names)-1]
		*at = append(append(append((*at)[:0], '"'), name...), '"', ':')
	}
	k.spelled, k.order = k.spelled[:0], k.order[:0]
	for m, i := range c.order[:n] { // what writeObject has sorted
		k.spelled = longer(k.spelled)
		at := &k.spelled[m]
		if *at = append((*at)[:0], '{'); m > 0 {
			(*at)[0] = ','
		}
		*at = append(c.dialect.appendString(*at, c.nodes[i].text), ':')
		k.order = append(k.order, i/2)
	}
	k.values = append(k.values[:0], c.nodes[:n]...)
}

// longer lengthens a list by one. A buffer that was there before is used again.
func longer(list [][]byte) [][]byte {
	if len(list) < cap(list) {
		return list[:len(list)+1]
	}
	return append(list, nil)
}

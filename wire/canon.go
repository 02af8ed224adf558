package wire

import (
	"bytes"
	"slices"
)

// node is one token of a parsed document. The nodes of an object's or array's content follow it, up to next; a
// member is two nodes in a row, its name and its value.
type node struct {
	kind    byte // '{' '[' '"' 'n'umber 'l'iteral
	escaped bool // of a string; of a number: written as an integer
	text    []byte
	next    int // index after the node and its content
}

// canonicaliser rewrites JSON documents into canonical form: members sorted, no white space, one spelling for each
// string and number. It keeps its scratch space between documents. How strings and numbers are spelled, and
// what sorts before what, is the dialect's.
type canonicaliser struct {
	dialect dialect
	s       scanner
	nodes   []node
	order   []int  // scratch: name nodes of the objects being written
	fault   string // what no scanner can know: a number out of range, a name that comes twice
	shape   shape
}

// dialect is how one contract spells the leaves of canonical JSON.
type dialect struct {
	appendString func(dst, s []byte) []byte
	appendNumber func(dst, text []byte, integer bool) ([]byte, bool)
	compareNames func(a, b []byte) int
}

var classicDialect = dialect{
	appendString: appendClassicString,
	appendNumber: appendClassicNumber,
	compareNames: bytes.Compare,
}

// append appends the canonical form of an object. The second result says what is wrong with it, "" when nothing is.
func (c *canonicaliser) append(dst, object []byte) ([]byte, string) {
	c.s.reset(object)
	if out, ok := c.familiar(dst, object); ok {
		c.shape.missed = 0
		return out, ""
	}
	c.s.reset(object)
	c.nodes = c.nodes[:0]
	c.order = c.order[:0]
	c.fault = ""
	if c.s.peek() != '{' {
		return dst, "not an object"
	}
	c.parse()
	if c.s.end(); c.s.failed() {
		return dst, c.s.reason()
	}
	if dst = c.write(dst, 0); c.fault == "" {
		c.remember()
	}
	return dst, c.fault
}

// parse appends the nodes of the next value.
func (c *canonicaliser) parse() {
	s, at := &c.s, len(c.nodes)
	switch b := s.peek(); b {
	case '{':
		c.nodes = append(c.nodes, node{kind: '{'})
		for name := range s.members {
			c.nodes = append(c.nodes, node{kind: '"', text: name, next: len(c.nodes) + 1})
			c.parse()
		}
	case '[':
		c.nodes = append(c.nodes, node{kind: '['})
		for range s.elements {
			c.parse()
		}
	case '"':
		c.nodes = append(c.nodes, node{kind: '"', text: s.text()})
	case 't', 'f', 'n':
		c.nodes = append(c.nodes, node{kind: 'l', text: s.skip()})
	default:
		text, integer := s.number()
		c.nodes = append(c.nodes, node{kind: 'n', text: text, escaped: integer})
	}
	c.nodes[at].next = len(c.nodes)
}

func (c *canonicaliser) write(dst []byte, at int) []byte {
	n := &c.nodes[at]
	switch n.kind {
	case '{':
		return c.writeObject(dst, at)
	case '[':
		dst = append(dst, '[')
		for i := at + 1; i < n.next; i = c.nodes[i].next {
			if i > at+1 {
				dst = append(dst, ',')
			}
			dst = c.write(dst, i)
		}
		return append(dst, ']')
	case '"':
		return c.dialect.appendString(dst, n.text)
	case 'n':
		out, ok := c.dialect.appendNumber(dst, n.text, n.escaped)
		if !ok {
			c.fault = "a number beyond float64"
		}
		return out
	}
	return append(dst, n.text...)
}

func (c *canonicaliser) writeObject(dst []byte, at int) []byte {
	first := len(c.order)
	sorted := true
	for i := at + 1; i < c.nodes[at].next; i = c.nodes[i+1].next {
		if k := len(c.order); k > first && sorted {
			sorted = c.dialect.compareNames(c.nodes[c.order[k-1]].text, c.nodes[i].text) < 0
		}
		c.order = append(c.order, i)
	}
	names := c.order[first:]
	if !sorted {
		c.sort(names)
	}
	dst = append(dst, '{')
	for k, i := range names {
		if k > 0 {
			dst = append(dst, ',')
		}
		dst = c.dialect.appendString(dst, c.nodes[i].text)
		dst = append(dst, ':')
		dst = c.write(dst, i+1)
	}
	c.order = c.order[:first]
	return append(dst, '}')
}

// sort orders name nodes, and notes a name that comes twice.
func (c *canonicaliser) sort(names []int) {
	if len(names) > 32 {
		slices.SortFunc(names, func(a, b int) int { return c.dialect.compareNames(c.nodes[a].text, c.nodes[b].text) })
	} else {
		for i := 1; i < len(names); i++ {
			for j := i; j > 0 && c.dialect.compareNames(c.nodes[names[j-1]].text, c.nodes[names[j]].text) > 0; j-- {
				names[j-1], names[j] = names[j], names[j-1]
			}
		}
	}
	for i := 1; i < len(names); i++ {
		if bytes.Equal(c.nodes[names[i-1]].text, c.nodes[names[i]].text) {
			c.fault = twice
		}
	}
}

package transport

import (
	"io"
	"time"
)

// Exchange is a request that has ended, for counting. It names no user and no session.
type Exchange struct {
	Operation string        // one of the Op… names
	Class     Class         // None: it brought the answer that was asked for. What that holds may be refused later
	Took      time.Duration // until the whole answer was there; of a watch stream: until it was open
	Sent      int64         // bytes of its body
	Received  int64         // bytes of the answer's body, as far as read; of a watch stream: 0
}

// observation measures a request. The zero observation, of a client that nobody watches, does nothing.
type observation struct {
	tell     func(Exchange)
	now      func() time.Time
	began    time.Time
	received int64
}

func (c *Client) observe() observation {
	if c.cfg.Observe == nil {
		return observation{}
	}
	return observation{tell: c.cfg.Observe, now: c.cfg.Now, began: c.cfg.Now()}
}

// count returns the body of an answer, counted as it is read.
func (o *observation) count(body io.ReadCloser) io.ReadCloser {
	if o.tell == nil {
		return body
	}
	return countedBody{body, &o.received}
}

func (o *observation) done(r *request, err error) {
	if o.tell != nil {
		o.tell(Exchange{Operation: r.op, Class: Classify(err).Class, Took: o.now().Sub(o.began), Sent: int64(len(r.body)), Received: o.received})
	}
}

type countedBody struct {
	io.ReadCloser
	n *int64
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	*b.n += int64(n)
	return n, err
}

package actors

import "testing"

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ want, advertised, fallback, most, is int64 }{
		{0, 0, 1000, 0, 1000},
		{0, 500, 1000, 0, 500},
		{200, 500, 1000, 0, 200},
		{9000, 500, 1000, 5000, 5000},
		{0, 0, 1000, 100, 100},
		{-1, -1, 0, 0, 1},
	} {
		if is := within(c.want, c.advertised, c.fallback, c.most); is != c.is {
			t.Errorf("within%v is %d", c, is)
		}
	}
}

func TestNarrower(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]int64{{0, 0, 0}, {5, 0, 5}, {0, 5, 5}, {3, 5, 3}, {5, 3, 3}, {-1, -1, 0}} {
		if is := narrower(c[0], c[1]); is != c[2] {
			t.Errorf("narrower of %d and %d is %d", c[0], c[1], is)
		}
	}
}

package transport

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

type namedEvent struct{ name, data string }

// aComment stands for a comment between events.
var aComment = namedEvent{name: ": a comment"}

// all parses a whole stream.
func all(r io.Reader) (events []namedEvent, err error) {
	s := newSSEReader(r)
	for {
		b, err := s.next()
		if err != nil {
			return events, err
		}
		if b.comment {
			events = append(events, aComment)
			continue
		}
		events = append(events, namedEvent{b.name, string(b.data)})
	}
}

func TestSSE(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string][]namedEvent{
		"":                                 nil,
		"\n\n\n":                           nil,
		"data: a\n\n":                      {{"", "a"}},
		"data:a\r\n\r\n":                   {{"", "a"}},
		"data:  a\r\rdata\r\r":             {{"", " a"}, {"", ""}},
		"data: a\r\n\r\ndata: b\r\n\r\n":   {{"", "a"}, {"", "b"}},
		"\xEF\xBB\xBFdata: a\n\n":          {{"", "a"}},
		"data: \xEF\xBB\xBFa\n\n":          {{"", "\xEF\xBB\xBFa"}},
		"event: x\ndata: a\ndata: b\n\n":   {{"x", "a\nb"}},
		"event: x\nevent: y\n\n":           {{"y", ""}},
		": c\n\nid: 7\nretry: 1\n\n":       {aComment},
		":\n:\n: c\ndata: a\n\n:":          {aComment, aComment, aComment, {"", "a"}},
		"event: x\n: c\n\n: c\r\n":         {{"x", ""}, aComment},
		"data: a\n: c\ndata\nxdata: b\n\n": {{"", "a\n"}},
		"event: x\n\ndata: a\n\n":          {{"x", ""}, {"", "a"}},
		"data: lost":                       nil,
		"data: lost\n":                     nil,
	} {
		got, err := all(strings.NewReader(stream))
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", stream, got, err, want)
		}
	}
}

// byTheBook is the parsing of the standard in its plainest form: the whole stream at once.
func byTheBook(stream string) (events []namedEvent) {
	stream = strings.TrimPrefix(stream, "\xEF\xBB\xBF")
	stream = strings.ReplaceAll(stream, "\r\n", "\n")
	stream = strings.ReplaceAll(stream, "\r", "\n")
	lines := strings.Split(stream, "\n")
	var (
		name string
		data []string
	)
	for _, line := range lines[:len(lines)-1] { // what follows the last line end is unterminated
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if name != "" || len(data) > 0 {
				events = append(events, namedEvent{name, strings.Join(data, "\n")})
			}
			name, data = "", nil
		case field == "":
			if name == "" && len(data) == 0 {
				events = append(events, aComment)
			}
		case field == "event":
			name = value
		case field == "data":
			data = append(data, value)
		}
	}
	return events
}

func FuzzSSE(f *testing.F) {
	for _, seed := range []string{thirteen, ": heartbeat\r\n\r\n", "data\rdata: x\r\n\n\n", "\xEF\xBB\xBFevent:\n\n", "a:b:c\n\ndata::\n\n", "\r\r\n\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		want := byTheBook(stream)
		for _, r := range []io.Reader{strings.NewReader(stream), iotest.OneByteReader(strings.NewReader(stream)), iotest.DataErrReader(strings.NewReader(stream))} {
			got, err := all(r)
			if errors.Is(err, errLineTooLong) || errors.Is(err, errEventTooLong) {
				if len(stream) < maxLineBytes {
					t.Fatalf("a stream of %d bytes is too long: %v", len(stream), err)
				}
				continue
			}
			if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
				t.Fatalf("%q: %q, %v, want %q", stream, got, err, want)
			}
		}
	})
}

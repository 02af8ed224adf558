package transport

import (
	"bufio"
	"errors"
	"io"
)

// Bounds of the watch stream, in bytes: of a line, and of all lines of an event, comments and ends of line included.
const (
	maxLineBytes  = 1 << 20
	maxEventBytes = 1 << 20
)

var (
	errLineTooLong  = errors.New("a line of the stream is too long")
	errEventTooLong = errors.New("an event of the stream is too long")
)

// sseReader parses server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) as far as the
// protocol uses them: names, data and comments, no ids, no retry. It holds at most one event.
type sseReader struct {
	r     *bufio.Reader
	line  []byte // reused
	begun bool   // a first line has been read: no byte order mark any more
	cr    bool   // the last line ended with CR: a LF that follows belongs to it

	// Of the event whose lines are being read.
	size    int // of its lines so far
	name    string
	data    []byte // reused
	hasData bool
}

// sseBlock is what arrives: an event that has data lines or a name, or a comment between events.
type sseBlock struct {
	comment bool
	name    string
	data    []byte // valid until the next block is asked for
}

func newSSEReader(r io.Reader) *sseReader {
	return &sseReader{r: bufio.NewReaderSize(r, 4<<10)}
}

// next returns what arrives next. A comment is returned as soon as its line is complete, for a server need not send an
// empty line after it; one in the middle of an event is passed over. An event that the end of the stream leaves
// unterminated is discarded; the end is io.EOF.
func (s *sseReader) next() (sseBlock, error) {
	for {
		line, err := s.readLine()
		if err != nil {
			return sseBlock{}, err
		}
		if s.size += len(line) + 1; s.size > maxEventBytes {
			return sseBlock{}, errEventTooLong
		}
		if len(line) == 0 {
			block, complete := sseBlock{name: s.name, data: s.data}, s.hasData || s.name != ""
			s.size, s.name, s.data, s.hasData = 0, "", s.data[:0], false
			if complete {
				return block, nil
			}
			continue
		}
		field, value := splitField(line)
		switch string(field) {
		case "":
			if s.name == "" && !s.hasData {
				return sseBlock{comment: true}, nil
			}
		case "event":
			s.name = string(value)
		case "data":
			if s.hasData {
				s.data = append(s.data, '\n')
			}
			s.data = append(s.data, value...)
			s.hasData = true
		}
	}
}

// splitField splits a line into field name and value. A comment's field is empty.
func splitField(line []byte) (field, value []byte) {
	for i, c := range line {
		if c == ':' {
			value = line[i+1:]
			if len(value) > 0 && value[0] == ' ' {
				value = value[1:]
			}
			return line[:i], value
		}
	}
	return line, nil
}

// readLine returns the next line without its end (LF, CR or CR LF), valid until the next call. A line that the end
// of the stream leaves unterminated is not returned.
func (s *sseReader) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		c, err := s.r.ReadByte()
		if err != nil {
			return nil, err
		}
		afterCR := s.cr
		s.cr = c == '\r'
		switch {
		case c == '\n' && afterCR && len(s.line) == 0:
			continue
		case c == '\n', c == '\r':
			line := s.line
			if !s.begun {
				s.begun = true
				line = trimMark(line)
			}
			return line, nil
		case len(s.line) == maxLineBytes:
			return nil, errLineTooLong
		}
		s.line = append(s.line, c)
	}
}

// trimMark cuts a byte order mark off the first line of a stream.
func trimMark(line []byte) []byte {
	if len(line) >= 3 && line[0] == 0xEF && line[1] == 0xBB && line[2] == 0xBF {
		return line[3:]
	}
	return line
}

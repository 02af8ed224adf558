package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestEveryByteAtEveryPlace puts every character at every place of a string that is read eight bytes at a time.
func TestEveryByteAtEveryPlace(t *testing.T) {
	t.Parallel()
	runes := []rune{0x7f, 0x80, 'é', 0x2027, 0x2028, 0x2029, 0x202a, 0xfffd, 0x10ffff}
	for r := rune(0); r < 0x80; r++ {
		runes = append(runes, r)
	}
	for _, r := range runes {
		for at := range 18 {
			text := strings.Repeat("a", at) + string(r) + strings.Repeat("z", 17-at)
			want, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := appendClassicString(nil, []byte(text)); string(got) != string(want) {
				t.Fatalf("%q is %s, want %s", text, got, want)
			}
			s := scanner{b: want}
			if got := s.text(); string(got) != text || s.failed() {
				t.Fatalf("%s reads as %q", want, got)
			}
			plain := appendString(nil, text)
			var back string
			if err := json.Unmarshal(plain, &back); err != nil || back != text || strings.Contains(string(plain), `\u003c`) {
				t.Fatalf("%q is %s", text, plain)
			}
			if got := validText([]byte(text)); (got == "nul_in_text") != (r == 0) {
				t.Fatalf("%q: %q", text, got)
			}
		}
	}
}

func TestScannerLimits(t *testing.T) {
	t.Parallel()
	refused := func(doc string) bool {
		s := scanner{b: []byte(doc)}
		s.skip()
		s.end()
		return s.failed()
	}
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	if refused(nested(maxDepth)) || !refused(nested(maxDepth+1)) || !refused(strings.Repeat("[", 1<<20)) {
		t.Error("the depth is not bounded at 128")
	}
	for _, bad := range []string{`"\ud83d"`, `"\ude00"`, `"\ud83d\ue000"`, `"\ud83d\ud83d"`, `"\ud83dx"`, `"\u12g4"`, "\"\xed\xa0\x80\"", "\"\xc0\x80\""} {
		if !refused(bad) {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestRequestHashLeavesOutTheDeletePayload, as the request itself does.
func TestRequestHashLeavesOutTheDeletePayload(t *testing.T) {
	t.Parallel()
	h := classic{}.NewRequestHash()
	sum := func(payload string) string {
		if err := h.Add(&PushRow{Schema: "s", Table: "t", Key: Key{"id", "1"}, Op: OpDelete, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
		return h.Sum()
	}
	if sum(`{"id":"1"}`) != sum(``) {
		t.Error("the payload of a DELETE is hashed")
	}
}

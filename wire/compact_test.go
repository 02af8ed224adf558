package wire

import (
	"bytes"
	"encoding/json"
	"testing"
	"unsafe"
)

func TestCompact(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `{"a":"b c","d":[1,2]}`, "{ \"a\" :\t\"b \\\" c\" ,\r\n\"d\":[1, 2]}\n", `" \\" `, ` "\\\" "`, "\n null", `{"a":" "}`,
	} {
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(text)); err != nil {
			t.Fatal(err)
		}
		in := []byte(text)
		got := Compact(in)
		if string(got) != want.String() || string(in) != text {
			t.Errorf("%q became %q", text, got)
		}
		if want.Len() == len(text) && unsafe.SliceData(got) != unsafe.SliceData(in) {
			t.Errorf("%q was copied", text)
		}
	}
}

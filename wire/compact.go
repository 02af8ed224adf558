package wire

// Compact returns a JSON text without the white space between its tokens. A text that has none is returned as it is; the
// text is taken to be valid.
func Compact(text []byte) []byte {
	i := looseSpace(text, 0)
	if i == len(text) {
		return text
	}
	out := make([]byte, 0, len(text))
	for from := 0; ; i = looseSpace(text, from) {
		out = append(out, text[from:i]...)
		if i == len(text) {
			return out
		}
		for from = i; from < len(text) && space(text[from]); from++ {
		}
	}
}

// looseSpace returns where the next white space outside of strings is, from a place outside of strings on; the length of
// the text when there is none.
func looseSpace(text []byte, from int) int {
	quoted := false
	for i := from; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && space(c):
			return i
		}
	}
	return len(text)
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

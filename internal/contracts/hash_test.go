package contracts

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// The scripted server computes hashes by code of its own, so that the engine is not measured by itself.

// hashOf returns the hash of a committed bundle.
func (d *dialect) hashOf(rows []bundleRow) string {
	list := make([]any, 0, len(rows))
	for i, r := range rows {
		entry := map[string]any{
			"schema": r.Schema, "table": r.Table, "key": plainJSON(r.Key), "op": r.Op,
			"row_ordinal": d.ordinal(int64(i)), "row_version": d.ordinal(r.RowVersion), "payload": nil,
		}
		if len(r.Payload) > 0 && r.Op != "DELETE" {
			entry["payload"] = plainJSON(r.Payload)
		}
		list = append(list, entry)
	}
	return d.hash(list)
}

// ordinal spells a number of a hash's input.
func (d *dialect) ordinal(n int64) any {
	if d.uniform {
		return strconv.FormatInt(n, 10)
	}
	return n
}

func (d *dialect) hash(v any) string {
	text := []byte(mustJSON(v)) // classic: sorted members, float64 numbers, HTML escaped
	if d.uniform {
		text = jcs(nil, v)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// plainJSON decodes JSON as the classic server does, which takes every number through a float64. Rows of the uniform
// dialect hold no numbers.
func plainJSON(text []byte) any {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		panic(fmt.Sprintf("%v in %s", err, text))
	}
	return v
}

// jcs appends the canonical text (RFC 8785) of a decoded value without numbers.
func jcs(dst []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int {
			return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		})
		dst = append(dst, '{')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(jcs(dst, name), ':')
			dst = jcs(dst, v[name])
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = jcs(dst, e)
		}
		return append(dst, ']')
	case string:
		dst = append(dst, '"')
		for _, r := range v {
			if i := strings.IndexRune("\"\\\b\f\n\r\t", r); i >= 0 {
				dst = append(dst, '\\', `"\bfnrt`[i])
			} else if r < 0x20 {
				dst = fmt.Appendf(dst, `\u%04x`, r)
			} else {
				dst = append(dst, string(r)...)
			}
		}
		return append(dst, '"')
	case nil, bool:
		return append(dst, mustJSON(v)...)
	default:
		panic(fmt.Sprintf("a %T in canonical JSON without numbers", v))
	}
}

// What the server hashes is checked against the canonical examples of the fixtures, and against the vectors of the protocol.
func TestTheServersHashes(t *testing.T) {
	t.Parallel()
	var file struct {
		Examples map[string]struct {
			Text   string `json:"canonical_bytes"`
			Base64 string `json:"utf8_base64"`
			SHA256 string
		} `json:"canonical_examples"`
	}
	read(t, "canonical-json/jcs-uniform-numeric-strings.json", &file)
	for name, e := range file.Examples {
		raw, err := base64.StdEncoding.DecodeString(e.Base64)
		if err != nil || !bytes.Equal(raw, []byte(e.Text)) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "push_request" && name != "committed_bundle" {
			continue // illustrations, with numbers
		}
		v := plainJSON(raw)
		if got := string(jcs(nil, v)); got != e.Text {
			t.Errorf("%s: %s", name, got)
		}
		if got := uniform.hash(v); got != e.SHA256 {
			t.Errorf("%s: %s", name, got)
		}
	}
	row := []bundleRow{{Schema: "main", Table: "users", Key: []byte(`{"id":"user-1"}`), Op: "INSERT", RowVersion: 1, Payload: []byte(`{"id":"user-1","name":"Ada"}`)}}
	same(t, "uniform", uniform.hashOf(row), "e713784cb0ffed2f8dd9e56fc40121600b9fdaa9b6baf5d9763f5f04b9ed31bd")
	same(t, "classic", classic.hashOf(row), "d01868c80bc7b55a07137bc81d8382388e82d693216aad65d97bdd4b277ee06a")
}

package message

import "strings"

// Bounds of MessageIDs.
const (
	maxIDs      = 1_000
	maxIDLength = 998
)

// MessageIDs are the message identifiers in the value of Message-ID, References or
// In-Reply-To, without their angle brackets, in order. White space within one is
// removed, as folding puts it there. Where there are no angle brackets, every word with
// an @ is taken. There are no more than 1,000, none longer than 998 bytes.
func MessageIDs(s string) []string {
	if !strings.Contains(s, "<") {
		return bareIDs(s)
	}
	var ids []string
	for len(ids) < maxIDs {
		_, rest, ok := strings.Cut(s, "<")
		if !ok {
			break
		}
		end := strings.IndexAny(rest, "<>")
		if end < 0 {
			break
		}
		if rest[end] == '<' {
			s = rest[end:]
			continue
		}
		id := rest[:end]
		s = rest[end+1:]
		if strings.ContainsAny(id, " \t\r\n") {
			id = strings.Join(strings.Fields(id), "")
		}
		if id != "" && len(id) <= maxIDLength {
			ids = append(ids, id)
		}
	}
	return ids
}

func bareIDs(s string) []string {
	var ids []string
	for id := range strings.FieldsSeq(s) {
		if strings.Contains(id, "@") && len(id) <= maxIDLength && len(ids) < maxIDs {
			ids = append(ids, id)
		}
	}
	return ids
}

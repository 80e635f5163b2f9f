package message

import "strings"

// BaseSubject is the base subject of RFC 5256, section 2.1, of the raw value of Subject:
// without Re:, Fwd: and what goes with them. Time is linear in len(s).
func BaseSubject(s string) string {
	s = strings.Join(strings.Fields(DecodeWords(s)), " ") // (1)
	for {
		s = cutTrailers(s) // (2)
		s = cutLeaders(s)  // (3) to (5)
		inner, ok := cutForward(s)
		if !ok {
			return s
		}
		s = inner // (6)
	}
}

// cutTrailers removes subj-trailer.
func cutTrailers(s string) string {
	for {
		s = strings.TrimRight(s, " ")
		if !hasSuffixFold(s, "(fwd)") {
			return s
		}
		s = s[:len(s)-len("(fwd)")]
	}
}

// cutLeaders removes subj-leader, and subj-blob as long as something is left.
func cutLeaders(s string) string {
	for {
		s = strings.TrimLeft(s, " ")
		rest, last := s, s // after the blobs; at the last of them
		for {
			after, ok := cutBlob(rest)
			if !ok {
				break
			}
			rest, last = after, rest
		}
		if after, ok := cutReply(rest); ok {
			s = after
			continue
		}
		// No prefix follows the blobs, so taking them off one by one ends the same way.
		if rest == "" {
			return last
		}
		return rest
	}
}

// cutBlob removes one subj-blob.
func cutBlob(s string) (rest string, ok bool) {
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	end := strings.IndexAny(s[1:], "[]")
	if end < 0 || s[1+end] == '[' {
		return s, false
	}
	return strings.TrimLeft(s[end+2:], " "), true
}

// cutReply removes subj-refwd.
func cutReply(s string) (rest string, ok bool) {
	switch {
	case hasPrefixFold(s, "re"):
		rest = s[2:]
	case hasPrefixFold(s, "fwd"):
		rest = s[3:]
	case hasPrefixFold(s, "fw"):
		rest = s[2:]
	default:
		return s, false
	}
	rest, _ = cutBlob(strings.TrimLeft(rest, " "))
	return strings.CutPrefix(rest, ":")
}

// cutForward removes subj-fwd-hdr and subj-fwd-trl.
func cutForward(s string) (inner string, ok bool) {
	if !hasPrefixFold(s, "[fwd:") || !strings.HasSuffix(s, "]") {
		return s, false
	}
	return s[len("[fwd:") : len(s)-1], true
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

package message

import "iter"

// Part is the part with that IMAP part number (RFC 3501, section 6.4.5), nil if there is
// none. The empty path is the root. What a message/rfc822 part holds is
// numbered below it; a message that is no multipart has one part, 1, which is itself.
func (x *Index) Part(path []int) *Part {
	part := x.Root
	within := part // what the next number counts in; nil for a leaf
	for _, n := range path {
		switch {
		case within == nil || n < 1:
			return nil
		case within.Type == "multipart":
			if n > len(within.Children) {
				return nil
			}
			part = within.Children[n-1]
		case n == 1:
			part = within
		default:
			return nil
		}
		within = nil
		switch {
		case part.Type == "multipart":
			within = part
		case part.isMessage() && len(part.Children) == 1:
			within = part.Children[0]
		}
	}
	return part
}

// Parts are all parts in the order of the message, the root first.
func (x *Index) Parts() iter.Seq[*Part] {
	return func(yield func(*Part) bool) {
		if x.Root != nil {
			walk(x.Root, yield)
		}
	}
}

// walk goes no deeper than maxDepth, as Parse and DecodeIndex see to it.
func walk(part *Part, yield func(*Part) bool) bool {
	if !yield(part) {
		return false
	}
	for _, child := range part.Children {
		if !walk(child, yield) {
			return false
		}
	}
	return true
}

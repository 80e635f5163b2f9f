package smime

import (
	"regexp"

	"golang.org/x/text/unicode/norm"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

const notOneAuthor = "the message has not exactly one author"

// soleAuthor is the one author whom From names; or why says what stands against it. A group
// (RFC 6854) is no author, and neither is what is no address: a mail program may show its name
// all the same. A display name that shows another address deceives.
func soleAuthor(from []message.Address) (author mail.Address, why string) {
	if len(from) != 1 {
		return author, notOneAuthor
	}
	author, ok := from[0].Mail()
	if !ok {
		return author, notOneAuthor
	}
	for _, shown := range shownAddress.FindAllString(norm.NFKC.String(message.DecodeWords(from[0].Name)), -1) {
		if a, err := mail.ParseAddress(shown); err != nil || !a.Equal(author) {
			return author, "the author's display name shows another address"
		}
	}
	return author, ""
}

// shownAddress finds what a person would take for a mail address.
var shownAddress = regexp.MustCompile(`[^\s<>()\[\]"',:;]+@[^\s<>()\[\]"',:;]+`)

// claimsAnother says whether the header of a signed entity has a From field that is not the
// author's alone. Mail programs that know header protection show that one.
func claimsAnother(entity []byte, author mail.Address) bool {
	froms := message.ParseHeader(entity, message.Limits{}).All("From")
	if len(froms) == 0 {
		return false
	}
	a, why := soleAuthor(message.ParseAddressList(froms[0]))
	return len(froms) > 1 || why != "" || !a.Equal(author)
}

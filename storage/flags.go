package storage

import (
	"errors"
	"math/bits"
	"slices"
	"strings"

	"cmmpd/internal/mail"
)

// The system flags of RFC 3501, section 2.3.2, in canonical form. \Recent is not a flag of the store: see
// Mailbox.ClaimRecent.
const (
	FlagSeen     = `\Seen`
	FlagAnswered = `\Answered`
	FlagFlagged  = `\Flagged`
	FlagDeleted  = `\Deleted`
	FlagDraft    = `\Draft`
)

const (
	sysSeen = 1 << iota
	sysAnswered
	sysFlagged
	sysDeleted
	sysDraft

	sysMask = 1<<5 - 1
)

var systemFlags = [...]string{FlagSeen, FlagAnswered, FlagFlagged, FlagDeleted, FlagDraft}

// maxKeywords is how many keywords a mailbox can know.
const maxKeywords = 128

const maxKeywordLength = 255

// FlagOp says what StoreFlags does with the flags given.
type FlagOp uint8

// The operations.
const (
	SetFlags FlagOp = iota // replace
	AddFlags
	DelFlags
)

// Flags is the set of flags of one message, a small value.
type Flags struct {
	set   flagSet
	names []string // shared, the mailbox's keywords; bit i of set.words is names[i]
}

// Has says whether the flag is set. System flags and keywords compare without regard to case.
func (f Flags) Has(flag string) bool {
	if strings.HasPrefix(flag, `\`) {
		for i, name := range systemFlags {
			if strings.EqualFold(flag, name) {
				return f.set.sys>>i&1 != 0
			}
		}
		return false
	}
	for i, name := range f.names {
		if f.set.has(i) && strings.EqualFold(flag, name) {
			return true
		}
	}
	return false
}

// List is the flags in canonical form, system flags first.
func (f Flags) List() []string {
	list := make([]string, 0, bits.OnesCount8(f.set.sys))
	for i, name := range systemFlags {
		if f.set.sys>>i&1 != 0 {
			list = append(list, name)
		}
	}
	for i, w := range f.set.words {
		for ; w != 0; w &= w - 1 {
			if n := i*64 + bits.TrailingZeros64(w); n < len(f.names) {
				list = append(list, f.names[n])
			}
		}
	}
	return list
}

func (f flagSet) has(keyword int) bool { return f.words[keyword/64]>>(keyword%64)&1 != 0 }

func (f *flagSet) add(keyword int) { f.words[keyword/64] |= 1 << (keyword % 64) }

// apply is the result of a FlagOp with g.
func (f flagSet) apply(op FlagOp, g flagSet) flagSet {
	switch op {
	case AddFlags:
		return flagSet{f.sys | g.sys, [2]uint64{f.words[0] | g.words[0], f.words[1] | g.words[1]}}
	case DelFlags:
		return flagSet{f.sys &^ g.sys, [2]uint64{f.words[0] &^ g.words[0], f.words[1] &^ g.words[1]}}
	default:
		return g
	}
}

// parsedFlags is a list of flags taken apart.
type parsedFlags struct {
	sys   uint8
	words []string // without duplicates
}

// parseFlags checks a list of flags. \Recent is passed over, as is what RFC 3501 does not define with a backslash.
func parseFlags(list []string) (parsedFlags, error) {
	var p parsedFlags
	for _, flag := range list {
		if strings.HasPrefix(flag, `\`) {
			for i, name := range systemFlags {
				if strings.EqualFold(flag, name) {
					p.sys |= 1 << i
				}
			}
			continue
		}
		if !validKeyword(flag) {
			return p, mail.E(mail.Invalid, "not a valid keyword", errors.New("keyword"))
		}
		if !slices.ContainsFunc(p.words, func(w string) bool { return strings.EqualFold(w, flag) }) {
			p.words = append(p.words, flag)
		}
	}
	if len(p.words) > maxKeywords {
		return p, errKeywords
	}
	return p, nil
}

var errKeywords = mail.E(mail.TooLarge, "too many keywords in this mailbox", nil)

// validKeyword says whether word is an atom (RFC 3501, section 9).
func validKeyword(word string) bool {
	if word == "" || len(word) > maxKeywordLength {
		return false
	}
	for i := 0; i < len(word); i++ {
		if c := word[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

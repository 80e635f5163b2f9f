// Package ldif reads and writes the LDAP Data Interchange Format (RFC 2849): content
// records and change records. The reader is bounded, names the line of every error,
// and never follows a URL (`attr:< file:…`), nor does it know controls.
package ldif

import "strconv"

// Change says what a record asks for.
type Change uint8

// The kinds of records. Content is a record without changetype.
const (
	Content Change = iota
	Add
	Modify
	Delete
	Rename // modrdn and moddn
)

// Op is what one part of a Modify record does.
type Op uint8

// The operations of a Modify record.
const (
	AddValues Op = iota
	DeleteValues
	ReplaceValues
)

// Value is one value of an entry, with its attribute description as written.
type Value struct {
	Line int
	Desc string
	Data []byte
}

// Mod is one part of a Modify record: its values are all of attribute Desc.
type Mod struct {
	Line   int
	Op     Op
	Desc   string
	Values []Value
}

// Record is one record of a file.
type Record struct {
	Line   int // of its dn
	DN     string
	Change Change
	Values []Value // of Content and Add
	Mods   []Mod   // of Modify

	NewRDN       string // of Rename
	DeleteOldRDN bool
	NewSuperior  string // empty: the parent stays
}

// Error is a fault in the text.
type Error struct {
	Line int
	Text string
}

func (e *Error) Error() string { return "line " + strconv.Itoa(e.Line) + ": " + e.Text }

// Package engine is the ordered key-value contract below the mailbox store, its implementation on bbolt, and Behind,
// which makes acknowledged writes visible at once while they are written to the engine later.
package engine

import "bytes"

// Reader reads one state of the data. What it returns is valid only until the enclosing View or Update returns, and
// must not be changed.
type Reader interface {
	// Get is the value of key, nil if there is none. A value that is present is never nil.
	Get(key []byte) []byte
	// Scan calls f for every key that begins with prefix and is not less than from, in ascending order, until f
	// says false. from may be nil.
	Scan(prefix, from []byte, f func(key, value []byte) bool)
}

// Writer is a Reader that sees its own changes. f of Scan must not change anything.
type Writer interface {
	Reader
	// Put keeps copies of neither key nor value: they must not be changed before Update returns.
	Put(key, value []byte) error
	Delete(key []byte) error
}

// Engine is a transactional ordered key-value store. Its methods may be called concurrently; one Update runs at a
// time. Keys are not empty. No View may be open across I/O or a wait: old versions are kept for it meanwhile.
type Engine interface {
	View(f func(Reader) error) error
	// Update runs f and makes its changes durable, all or none. If f returns an error nothing is changed.
	Update(f func(Writer) error) error
	// Release gives back memory that only makes reading faster.
	Release() error
	Close() error
}

// Op is one change. A nil Value deletes.
type Op struct {
	Key, Value []byte
}

// start is where a scan begins.
func start(prefix, from []byte) []byte {
	if bytes.Compare(prefix, from) > 0 {
		return prefix
	}
	return from
}

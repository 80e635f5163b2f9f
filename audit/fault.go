package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// ErrCannotOpen is in the chain of the error of Verify, Export and Bundle when there is
// nothing to open at the path given.
var ErrCannotOpen = errors.New("cannot be opened")

// Fault is what is wrong with a log, and where.
type Fault struct {
	File   string // within the log; empty if it is no file in particular
	Record int64  // the number of the record; -1 if it is none in particular
	Reason string
}

func (f *Fault) Error() string {
	var place []string
	if f.File != "" {
		place = append(place, f.File)
	}
	if f.Record >= 0 {
		place = append(place, fmt.Sprintf("record %d", f.Record))
	}
	if len(place) == 0 {
		return f.Reason
	}
	return strings.Join(place, ", ") + ": " + f.Reason
}

// faultAt is a Fault of a file as a whole.
func faultAt(file, format string, args ...any) *Fault {
	return &Fault{File: file, Record: -1, Reason: fmt.Sprintf(format, args...)}
}

// faultOf is the Fault of a file that could not be read.
func faultOf(file string, err error) *Fault {
	if errors.Is(err, fs.ErrNotExist) {
		return faultAt(file, "is missing")
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return faultAt(file, "cannot be read: %v", err)
}

package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// A file of names, in a bundle, has one line of canonical JSON for each row: digest, salt and value. Anybody can compute
// the digest of the other two. The digests ascend.

func appendNameLine(b []byte, d Digest, n Name) []byte {
	b = append(append(b, `{"digest":"`...), d.String()...)
	b = base64.StdEncoding.AppendEncode(append(b, `","salt":"`...), n.Salt)
	b = appendString(append(b, `","value":`...), n.Value)
	return append(b, "}\n"...)
}

// parseNameLine reads what appendNameLine wrote, without the end of line, and nothing else.
func parseNameLine(line []byte) (d Digest, n Name, err error) {
	c := cursor{b: line}
	var digest, salt string
	err = c.object(func(name string) (err error) {
		switch name {
		case "digest":
			digest, err = c.str()
		case "salt":
			salt, err = c.str()
		case "value":
			n.Value, err = c.str()
		default:
			err = fmt.Errorf("unknown member %q", name)
		}
		return err
	})
	if err != nil {
		return d, n, err
	}
	if n.Salt, err = base64.StdEncoding.Strict().DecodeString(salt); err != nil || len(n.Salt) < MinSalt {
		return d, n, errors.New("no salt")
	}
	d = n.Digest()
	if digest != d.String() {
		return d, n, errors.New("the digest is not that of salt and value")
	}
	if !bytes.Equal(appendNameLine(nil, d, n), append(bytes.Clone(line), '\n')) {
		return d, n, errNotCanonical
	}
	return d, n, nil
}

// parseNames reads a file of names whose digests ascend, from after on, which may be nil.
func parseNames(b []byte, after *Digest) (map[Digest]Name, error) {
	rows := make(map[Digest]Name)
	for number := 1; len(b) > 0; number++ {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("line %d is cut off", number)
		}
		d, n, err := parseNameLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if after != nil && bytes.Compare(d[:], after[:]) <= 0 {
			return nil, fmt.Errorf("line %d: the digests do not ascend", number)
		}
		rows[d], after, b = n, &d, rest
	}
	if len(rows) == 0 {
		return nil, errors.New("is empty")
	}
	return rows, nil
}

// rowsOf are rows that were read, and which of them were asked for. It is a Names that cannot grow.
type rowsOf struct {
	rows map[Digest]Name
	used map[Digest]bool
}

func (r *rowsOf) Hide([]string, time.Time) ([]Digest, error) {
	return nil, errors.New("these names were read")
}

func (r *rowsOf) Reveal(d Digest) (Name, bool, error) {
	n, ok := r.rows[d]
	if ok {
		r.used[d] = true
	}
	return n, ok, nil
}

func (r *rowsOf) All(f func(Name) error) error {
	for _, n := range r.rows {
		if err := f(n); err != nil {
			return err
		}
	}
	return nil
}

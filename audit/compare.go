package audit

import (
	"context"
	"errors"
	"fmt"
)

// Comparison is what two checkpoints of one log say together.
type Comparison struct {
	Origin  string
	Sizes   [2]int64
	Checked *Report // of the log at the path given; nil: none was
	Decided bool    // that they are of one log; else the log is needed to find out
}

// Compare holds two checkpoints against each other that the log's key has signed, for
// instance those that two witnesses have: whoever was shown another log than others finds
// out here. Of different sizes nothing can be said without the log, which path names (a
// directory, a bundle; empty: none). The error is a *Fault if there are two logs, if one
// of them is not a checkpoint of the log, or if the log at path is bad.
func Compare(ctx context.Context, pubkey []byte, a, b []byte, path string) (*Comparison, error) {
	key, _, err := parseKey(pubkey)
	if err != nil {
		return nil, &Fault{Record: -1, Reason: fmt.Sprintf("the key given is not a verifier key: %v", err)}
	}
	var c [2]*cosigned
	out := &Comparison{Origin: key.Name()}
	for i, raw := range [][]byte{a, b} {
		if c[i], err = parseCosigned(raw, key, false); err != nil {
			return nil, &Fault{Record: -1, Reason: fmt.Sprintf("checkpoint %d: %v", i+1, err)}
		}
		out.Sizes[i] = c[i].tree.N
	}
	if out.Sizes[0] == out.Sizes[1] {
		if c[0].tree.Hash != c[1].tree.Hash {
			return nil, &Fault{Record: -1, Reason: fmt.Sprintf("there are two logs: the key has signed two trees of %d records, with the roots %v and %v",
				out.Sizes[0], c[0].tree.Hash, c[1].tree.Hash)}
		}
		out.Decided = true
	}
	if path == "" {
		return out, nil
	}
	for i, raw := range [][]byte{a, b} {
		r, err := VerifyDemand(ctx, path, pubkey, Demand{Since: raw, Behind: -1})
		var f *Fault
		if errors.As(err, &f) {
			return nil, &Fault{f.File, f.Record, fmt.Sprintf("held against checkpoint %d: %s", i+1, f.Reason)}
		}
		if err != nil {
			return nil, err
		}
		out.Checked = r
	}
	out.Decided = true
	return out, nil
}

package server

import (
	"encoding/binary"
	"slices"
	"sort"
	"strings"

	"cmmpd/internal/boltfile"
)

// A plan finds the entries that a filter can possibly match, so that most need not be
// read. Whatever it finds is evaluated in full afterwards.
type plan struct {
	st    *store
	tx    *boltfile.Tx
	scans map[string][]uint64 // substring scans done already: one filter often asks several attributes for the same text
}

// candidates returns ascending ids. ok is false if the filter narrows nothing.
func (p *plan) candidates(f *filter) (ids []uint64, ok bool) {
	switch f.kind {
	case filterAnd:
		for _, part := range f.parts {
			if got, k := p.candidates(part); k && (!ok || len(got) < len(ids)) {
				ids, ok = got, true
			}
		}
		return ids, ok
	case filterOr:
		for _, part := range f.parts {
			got, k := p.candidates(part)
			if !k {
				return nil, false
			}
			ids = append(slices.Clip(ids), got...)
		}
		slices.Sort(ids)
		return slices.Compact(ids), true
	case filterNot, filterPresent, filterExtensible:
		return nil, false
	}
	switch {
	case !f.known || !f.valid:
		return nil, true // Undefined for every entry
	case f.kind == filterSubstrings && p.st.named[f.desc.typ] && f.longest() != "":
		return p.scan(f.longest()), true
	case f.kind != filterEqual && f.kind != filterApprox:
		return nil, false
	case f.desc.typ.name == "entryDN":
		if id := p.st.find(p.tx, string(f.value)); id != 0 {
			ids = []uint64{id}
		}
		return ids, true
	case p.st.indexed[f.desc.typ]:
		return p.st.lookup(p.tx, f.desc.typ, f.value), true
	}
	return nil, false
}

func (p *plan) scan(text string) []uint64 {
	ids, done := p.scans[text]
	if !done {
		for _, r := range *p.st.rows.Load() {
			if strings.Contains(r.text, text) {
				ids = append(ids, r.id)
			}
		}
		if p.scans == nil {
			p.scans = map[string][]uint64{}
		}
		p.scans[text] = ids
	}
	return ids
}

// below returns the ids of the entries at and below key, ascending.
func (p *plan) below(key string) []uint64 {
	var ids []uint64
	if key == p.st.base.key {
		for _, r := range *p.st.rows.Load() {
			ids = append(ids, r.id)
		}
		return ids
	}
	p.tx.Bucket(bucketDN).Scan([]byte(key), nil, func(_, v []byte) bool {
		if len(v) == 8 {
			ids = append(ids, binary.BigEndian.Uint64(v))
		}
		return true
	})
	slices.Sort(ids)
	return ids
}

// after cuts off the ids up to and including last.
func after(ids []uint64, last uint64) []uint64 {
	return ids[sort.Search(len(ids), func(i int) bool { return ids[i] > last }):]
}

// inScope says whether an entry with the key stands in the scope of base.
func inScope(key, base string, scope int) bool {
	switch scope {
	case scopeBase:
		return key == base
	case scopeOne:
		parent, ok := parentKey(key)
		return ok && parent == base
	}
	return strings.HasPrefix(key, base)
}

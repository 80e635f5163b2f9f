package search

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"hash/maphash"
	"io"
	"slices"
)

// Limits on what the index takes of one message. Of one with more it holds a part, and the message is a candidate for everything.
const (
	maxDocText  = 16 << 20 // octets of text
	maxDocTerms = 200_000  // different terms
)

// Builder collects messages for a segment. It belongs to one goroutine.
type Builder struct {
	folder  *Folder
	seed    maphash.Seed
	table   []uint32 // hash to place in entries, plus one
	entries []builtTerm
	arena   []byte // the terms
	touched []uint32
	posts   []posting
	docs    []Doc
	ids     map[uint64]bool
}

// builtTerm is a term, and in which fields of the message at hand it is.
type builtTerm struct {
	hash   uint64
	at     uint32 // in arena
	length uint8
	mask   Fields
}

// posting says that a message has a term in some fields.
type posting struct {
	term uint32
	doc  uint16
	mask Fields
}

// NewBuilder makes an empty Builder.
func NewBuilder() *Builder {
	return &Builder{folder: NewFolder(), seed: maphash.MakeSeed(), table: make([]uint32, 1<<12), ids: make(map[uint64]bool)}
}

// Len is how many messages there are.
func (b *Builder) Len() int { return len(b.docs) }

// Size is about how much memory they take.
func (b *Builder) Size() int {
	return 4*cap(b.table) + 16*cap(b.entries) + cap(b.arena) + 8*cap(b.posts) + 64*len(b.docs)
}

// Has says whether a message has been added.
func (b *Builder) Has(id uint64) bool { return b.ids[id] }

// Add adds a message. There may be MaxDocs of them. If the message cannot be read nothing is added.
func (b *Builder) Add(id uint64, src *Source) error {
	doc := Doc{ID: id, Encrypted: Encrypted(src.Index)}
	text := 0
	add := func(f Field, s []byte) bool {
		if text += len(s); text > maxDocText {
			doc.Partial = true
			return false
		}
		eachTerm(b.folder.Fold(s), func(term []byte) {
			if len(b.touched) < maxDocTerms {
				b.note(term, f.Set())
			} else {
				doc.Partial = true
			}
		})
		return !doc.Partial
	}
	for _, field := range src.fields() {
		in, value := FieldOf(field.Name), src.value(field)
		if !add(Around, []byte(field.Name)) || !add(in, value) || !add(in, src.addresses(field, value)) {
			break
		}
	}
	var err error
	if !doc.Partial {
		err = src.below(AllFields, add)
	}
	n := uint16(len(b.docs))
	for _, t := range b.touched {
		if err == nil {
			b.posts = append(b.posts, posting{t, n, b.entries[t].mask})
		}
		b.entries[t].mask = 0
	}
	b.touched = b.touched[:0]
	if err != nil {
		return err
	}
	b.docs = append(b.docs, doc)
	b.ids[id] = true
	return nil
}

// note adds a term to the message at hand.
func (b *Builder) note(term []byte, mask Fields) {
	h := maphash.Bytes(b.seed, term)
	i := h & uint64(len(b.table)-1)
	for ; b.table[i] != 0; i = (i + 1) & uint64(len(b.table)-1) {
		e := &b.entries[b.table[i]-1]
		if e.hash == h && bytes.Equal(b.term(e), term) {
			if e.mask == 0 {
				b.touched = append(b.touched, b.table[i]-1)
			}
			e.mask |= mask
			return
		}
	}
	n := uint32(len(b.entries))
	b.entries = append(b.entries, builtTerm{h, uint32(len(b.arena)), uint8(len(term)), mask})
	b.arena = append(b.arena, term...)
	b.touched = append(b.touched, n)
	b.table[i] = n + 1
	if 2*len(b.entries) > len(b.table) {
		b.grow()
	}
}

func (b *Builder) term(e *builtTerm) []byte { return b.arena[e.at : e.at+uint32(e.length)] }

func (b *Builder) grow() {
	b.table = make([]uint32, 2*len(b.table))
	for n := range b.entries {
		i := b.entries[n].hash & uint64(len(b.table)-1)
		for b.table[i] != 0 {
			i = (i + 1) & uint64(len(b.table)-1)
		}
		b.table[i] = uint32(n) + 1
	}
}

// Write writes the segment to w, from a place in the file on, and returns the length of the file. The Builder is of
// no use afterwards.
func (b *Builder) Write(w io.Writer, offset int64, aead cipher.AEAD, bound []byte) (int64, error) {
	rank, docs := b.inOrder()
	starts, grouped := b.group()
	out := newWriter(w, offset, len(docs), sealer{aead, bound})
	var lists [fields][]uint32
	for _, n := range b.sorted() {
		for f := range lists {
			lists[f] = lists[f][:0]
		}
		for _, p := range grouped[starts[n]:starts[n+1]] {
			for f := range Field(fields) {
				if p.mask.Has(f) {
					lists[f] = append(lists[f], rank[p.doc])
				}
			}
		}
		for f := range lists {
			if !slices.IsSorted(lists[f]) {
				slices.Sort(lists[f])
			}
		}
		if starts[n] == starts[n+1] {
			continue // only of a message that could not be read
		}
		out.term(b.term(&b.entries[n]), &lists)
	}
	return out.finish(offset, docs)
}

// inOrder is the messages by ID, and their places in that order.
func (b *Builder) inOrder() (rank []uint32, docs []Doc) {
	order := make([]int, len(b.docs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return cmp.Compare(b.docs[x].ID, b.docs[y].ID) })
	rank, docs = make([]uint32, len(order)), make([]Doc, len(order))
	for to, from := range order {
		rank[from], docs[to] = uint32(to), b.docs[from]
	}
	return rank, docs
}

// group is the postings by term, and where those of each term begin.
func (b *Builder) group() (starts []uint32, grouped []posting) {
	starts = make([]uint32, len(b.entries)+2)
	for _, p := range b.posts {
		starts[p.term+2]++
	}
	for i := 2; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	grouped = make([]posting, len(b.posts))
	for _, p := range b.posts {
		grouped[starts[p.term+1]] = p
		starts[p.term+1]++
	}
	return starts[:len(b.entries)+1], grouped
}

// sorted is the places of the terms in their order.
func (b *Builder) sorted() []uint32 {
	type head struct {
		first uint64 // octets of the term
		n     uint32
	}
	heads := make([]head, len(b.entries))
	for n := range b.entries {
		var first [8]byte
		copy(first[:], b.term(&b.entries[n]))
		heads[n] = head{binary.BigEndian.Uint64(first[:]), uint32(n)}
	}
	slices.SortFunc(heads, func(x, y head) int {
		if x.first != y.first {
			return cmp.Compare(x.first, y.first)
		}
		return bytes.Compare(b.term(&b.entries[x.n]), b.term(&b.entries[y.n]))
	})
	order := make([]uint32, len(heads))
	for i, h := range heads {
		order[i] = h.n
	}
	return order
}

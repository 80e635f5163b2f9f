package search

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// ordinary makes messages of 4 KiB: text of a vocabulary, a table of numbers, identifiers that nothing else has, and in one of a
// thousand a rare word.
type ordinary struct {
	r     *rand.Rand
	vocab []string
	buf   bytes.Buffer
	n     int
}

func newOrdinary() *ordinary {
	g := &ordinary{r: rand.New(rand.NewPCG(1, 2))}
	for range 1000 {
		w := make([]byte, 2+g.r.IntN(9))
		for i := range w {
			w[i] = "etaoinshrdlucmfwypvbgkjqxz"[min(g.r.IntN(26), g.r.IntN(26))]
		}
		g.vocab = append(g.vocab, string(w))
	}
	return g
}

func (g *ordinary) word() string { return g.vocab[g.r.IntN(len(g.vocab))] }

func (g *ordinary) next() []byte {
	b := &g.buf
	b.Reset()
	g.n++
	fmt.Fprintf(b, "Date: Mon, 02 Jan 2006 15:%02d:%02d +0000\r\nFrom: %s <a@x.example>\r\nTo: %s <b@y.example>\r\nSubject: %s %s %s %s\r\nMessage-ID: <%016x@mail.example>\r\nReceived: id %016x\r\nContent-Type: text/plain\r\n\r\n",
		g.n/60%60, g.n%60, g.word(), g.word(), g.word(), g.word(), g.word(), g.word(), g.r.Uint64(), g.r.Uint64())
	if g.n%1000 == 0 {
		b.WriteString("The word is zirconium.\r\n")
	}
	for b.Len() < 2600 {
		fmt.Fprintf(b, "%s %s %s %s %s %s\r\n", g.word(), g.word(), g.word(), g.word(), g.word(), g.word())
	}
	for b.Len() < 4096 {
		fmt.Fprintf(b, "%s;%s;%d;%d\r\n", g.word(), g.word(), g.r.IntN(100000), g.r.IntN(100000))
	}
	return b.Bytes()
}

// BenchmarkBuild adds messages and writes a segment for every 4,096.
func BenchmarkBuild(b *testing.B) {
	g, aead := newOrdinary(), testAEAD(b)
	var msgs [][]byte
	for range 4096 {
		msgs = append(msgs, bytes.Clone(g.next()))
	}
	b.ReportAllocs()
	b.SetBytes(4096)
	var file bytes.Buffer
	build := NewBuilder()
	i := 0
	for b.Loop() {
		if build.Len() == len(msgs) {
			file.Reset()
			if _, err := build.Write(&file, 0, aead, nil); err != nil {
				b.Fatal(err)
			}
			build, i = NewBuilder(), 0
		}
		if err := build.Add(uint64(i+1), source(msgs[i])); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(float64(file.Len())/4096, "file-B/msg")
}

// large is segments of n messages, merged as they may be.
func large(b *testing.B, n int) []*Segment {
	b.Helper()
	g := newOrdinary()
	var parts, all []*Segment
	id := uint64(0)
	for id < uint64(n) {
		build := NewBuilder()
		for build.Len() < 4096 && id < uint64(n) {
			id++
			if err := build.Add(id, source(g.next())); err != nil {
				b.Fatal(err)
			}
		}
		var file bytes.Buffer
		file.WriteString("head")
		if _, err := build.Write(&file, 4, testAEAD(b), []byte("bound")); err != nil {
			b.Fatal(err)
		}
		s, err := Open(bytes.NewReader(file.Bytes()), 4, int64(file.Len()), testAEAD(b), []byte("bound"))
		if err != nil {
			b.Fatal(err)
		}
		if parts = append(parts, s); len(parts) == MaxDocs/4096 || id == uint64(n) {
			whole := merged(b, parts, func(uint64) bool { return true })
			if parts, all = nil, append(all, opened(b, whole)); b.N == 0 {
				b.Log(len(whole))
			}
		}
	}
	return all
}

// BenchmarkFind looks for words, in the whole text and in subjects.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		segments := large(b, n)
		size := int64(0)
		for _, s := range segments {
			size += s.blocks[len(s.blocks)-1].terms
		}
		for _, bm := range []struct {
			name   string
			fields Fields
			needle string
		}{
			{"rare", AllFields, "zirconium"},
			{"common", AllFields, newOrdinary().vocab[0]},
			{"letter", AllFields, "e"},
			{"subject", Subject.Set(), newOrdinary().vocab[1]},
			{"phrase", AllFields, "word is zirc"},
		} {
			b.Run(fmt.Sprint(bm.name, "-", n), func(b *testing.B) {
				b.ReportAllocs()
				q, _ := NewQuery(bm.fields, []byte(bm.needle))
				for b.Loop() {
					for _, s := range segments {
						if _, err := s.Find([]Query{q}); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.ReportMetric(float64(size)/float64(n), "file-B/msg")
			})
		}
	}
}

// BenchmarkMerge makes one segment of four.
func BenchmarkMerge(b *testing.B) {
	parts := make([]*Segment, 4)
	g := newOrdinary()
	id := uint64(0)
	for i := range parts {
		var ids []uint64
		var msgs [][]byte
		for range 4096 {
			id++
			ids, msgs = append(ids, id), append(msgs, bytes.Clone(g.next()))
		}
		parts[i] = opened(b, built(b, ids, msgs))
	}
	b.ReportAllocs()
	b.SetBytes(4 * 4096 * 4096)
	for b.Loop() {
		merged(b, parts, func(uint64) bool { return true })
	}
}

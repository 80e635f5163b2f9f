package smime

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

const largeSize = 25 << 20

// large is a message of 25 MiB: an attachment in base64, or as it is.
func large(binary bool) []byte {
	b := make([]byte, largeSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	encoding := "binary"
	if !binary {
		encoding = "base64"
		b = appendBase64(nil, b[:largeSize/78*57])
	}
	return append([]byte("From: alice@works.gov.example\r\nSubject: s\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: "+encoding+"\r\n\r\n"), b...)
}

// allocated is how many bytes f allocates, all that is freed meanwhile included: what the
// heap can grow by at most.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLargeInBoundedMemory: besides the message itself there is one buffer, the sealed message.
// What was said of it in docs/decisions.md is held to here.
func TestLargeInBoundedMemory(t *testing.T) {
	w := newProfileWorld(t)
	for _, c := range []struct {
		name, reader string
		sender       string
		binary, lf   bool
		times        float64 // the message's size
	}{
		{"GCM, signed", "petra", "alice@works.gov.example", false, false, 1.38},
		{"CBC, signed", "carol", "alice@works.gov.example", false, false, 1.38},
		{"CBC, not signed", "carol", "", false, false, 1.38},
		{"lines without CR", "carol", "alice@works.gov.example", false, true, 1.41},
		{"binary, signed opaquely", "carol", "alice@works.gov.example", true, false, 1.89},
	} {
		raw := large(c.binary)
		if c.lf {
			raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
		}
		x := message.Parse(raw, message.Limits{})
		o := SealOptions{Recipients: w.usable(c.reader)}
		if c.sender != "" {
			o.Sender = mail.MustParseAddress(c.sender)
		}
		var sealed []byte
		used := allocated(func() {
			var err error
			sealed, err = w.gw.Seal(raw, x, o)
			w.must(err)
		})
		if limit := c.times*float64(len(raw)) + 1<<20; float64(used) > limit || cap(sealed) > len(sealed)*101/100 {
			t.Errorf("%s: sealing %d bytes took %d bytes of memory, %.2f times as many", c.name, len(raw), used, float64(used)/float64(len(raw)))
		}
		sx := message.Parse(sealed, message.Limits{})
		used = allocated(func() {
			if p := w.gw.Inspect(sealed, sx); p.Kind != Encrypted {
				t.Errorf("%s: %+v", c.name, p)
			}
		})
		if float64(used) > 0.78*float64(len(sealed))+1<<20 {
			t.Errorf("%s: looking at %d bytes took %d bytes of memory", c.name, len(sealed), used)
		}
		if c.sender != "" && !c.lf {
			if got := w.open(sealed, c.reader); !bytes.HasSuffix(got.Inner, raw[x.Root.BodyStart:]) || got.Signature.Status != Pass {
				t.Errorf("%s: another message came out: %+v", c.name, got.Signature)
			}
		}
	}
}

// TestLargeIsVerifiedWhereItLies: verifying reads the content once and copies none of it.
func TestLargeIsVerifiedWhereItLies(t *testing.T) {
	w := newSmallWorld(t)
	carol := w.people["carol"].Identity
	raw := []byte(signedBy(w, "From: carol@health.gov.example\r\n", "Content-Type: text/plain\r\n\r\n"+strings.Repeat("a line\r\n", largeSize/8), carol))
	x := message.Parse(raw, message.Limits{})
	used := allocated(func() {
		if r := w.gw.Verify(raw, x); r.Status != Pass {
			t.Errorf("%+v", r)
		}
	})
	if used > 1<<20 {
		t.Errorf("verifying %d bytes took %d bytes of memory", len(raw), used)
	}
}

func TestBase64(t *testing.T) {
	e := newEncoder()
	b := make([]byte, 3*chunkLines*lineBytes)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	for _, n := range []int{0, 1, 2, 3, 5, 6, 7, 8, 9, 55, 56, 57, 58, 113, 114, 115, 1000, chunkLines*lineBytes - 1, chunkLines * lineBytes, len(b) - 1, len(b)} {
		want := wrapped76(base64.StdEncoding.EncodeToString(b[:n]))
		if got := string(appendBase64([]byte("before"), b[:n])); got != "before"+want {
			t.Errorf("%d bytes in place: %q", n, got)
		}
		for _, step := range []int{1, 7, 57, 100, len(b)} {
			var pieces cms.Pieces
			for rest := b[:n]; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				pieces = append(pieces, rest[:min(step, len(rest))])
			}
			var out bytes.Buffer
			text := base64Text{pieces, e}
			if m, err := text.WriteTo(&out); err != nil || m != int64(len(want)) || out.String() != want || text.Size() != len(want) {
				t.Errorf("%d bytes, %d at once: %d of %d written, %v", n, step, m, text.Size(), err)
			}
		}
		if got, err := strictBase64([]byte(want)); err != nil || !bytes.Equal(got, b[:n]) {
			t.Errorf("%d bytes back: %v", n, err)
		}
	}
	for in, want := range map[string]string{"TU\tFO\r\n": "MAN", " T WFu": "Man", "TWE=\n\n": "Ma", "TWE": "", "TWE=TWE=": "", "TWE=\r\nthe secret": "", "TW-_": "", "TWFu\x00": ""} {
		got, err := strictBase64([]byte(in))
		if (err == nil) != (want != "") || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func wrapped76(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(76, len(s))
		b.WriteString(s[:n] + "\r\n")
		s = s[n:]
	}
	return b.String()
}

// processorTime is what the process has taken so far, of all its threads.
func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// perCore runs f and reports megabytes for each second of processor time, which others on the
// machine change less than the time on the clock.
func perCore(b *testing.B, size int, f func()) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	runtime.GC()
	start := processorTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(size)*float64(b.N)/1e6/(processorTime(b)-start).Seconds(), "MB/cpu-s")
}

// BenchmarkSealLarge is the whole of sealing a message of 25 MiB, without the domain's signature, and with one by a key on P-256
// (SHA-256) or P-384 (SHA-384, which takes less time where the processor has no instructions for SHA-256).
func BenchmarkSealLarge(b *testing.B) {
	w := newProfileWorld(b)
	raw := large(false)
	x := message.Parse(raw, message.Limits{})
	for _, name := range []string{"petra", "carol"} {
		for _, how := range []string{"plain", "signed", "signed, P-384"} {
			o := SealOptions{Recipients: w.usable(name)}
			kind := demopki.P256
			switch how {
			case "signed, P-384":
				kind = demopki.P384
				fallthrough
			case "signed":
				o.Sender = mail.MustParseAddress("alice@works.gov.example")
			}
			var err error
			w.domain, err = w.sub.Issue(demopki.Spec{CN: "works", Address: "domain-signing-authority@works.gov.example", Key: kind})
			w.must(err)
			b.Run(fmt.Sprintf("%s/%s", CipherFor(o.Recipients), how), func(b *testing.B) {
				perCore(b, len(raw), func() {
					if _, err := w.gw.Seal(raw, x, o); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

// BenchmarkOpenLarge is the way back: looking at it, and opening it.
func BenchmarkOpenLarge(b *testing.B) {
	w := newProfileWorld(b)
	raw := large(false)
	x := message.Parse(raw, message.Limits{})
	for _, name := range []string{"petra", "carol"} {
		o := SealOptions{Recipients: w.usable(name), Sender: mail.MustParseAddress("alice@works.gov.example")}
		sealed, err := w.gw.Seal(raw, x, o)
		w.must(err)
		sx := message.Parse(sealed, message.Limits{})
		k := w.opener(name)
		b.Run(fmt.Sprintf("%s/inspect", CipherFor(o.Recipients)), func(b *testing.B) {
			perCore(b, len(raw), func() { w.gw.Inspect(sealed, sx) })
		})
		b.Run(fmt.Sprintf("%s/open", CipherFor(o.Recipients)), func(b *testing.B) {
			perCore(b, len(raw), func() {
				if _, err := w.gw.Open(sealed, sx, k); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

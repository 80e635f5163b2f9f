package intake

import (
	"runtime"
	"strings"
	"testing"

	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
)

// TestLargeSealedInBoundedMemory: what all of accepting a message of 25 MiB allocates, in plain and
// sealed, while its own bytes lie in memory once.
func TestLargeSealedInBoundedMemory(t *testing.T) {
	w, _ := withStore(t)
	w.in.o.Memory = limit.NewBudget(256 << 20)
	body := strings.Repeat(strings.Repeat("x", 76)+"\n", (25<<20)/78)
	accept := func(subject string) float64 {
		text := crlf("From: <alice@works.gov.example>\nTo: <bob@works.gov.example>\nSubject: " + subject + "\nMessage-ID: <" + strings.ToLower(strings.Trim(subject[:2], "[")) + "@x>\n\n" + body)
		who := w.principal("alice")
		env := &mail.Envelope{From: who.Address, Sender: who, To: w.addresses("bob"), Client: mail.Client{Protocol: "submission", Remote: "192.0.2.77:12345", Helo: "x", TLS: "TLS 1.3 X"}}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := w.in.Accept(t.Context(), env, text)
		runtime.ReadMemStats(&after)
		w.must(err)
		return float64(after.TotalAlloc-before.TotalAlloc) / float64(len(text))
	}
	accept("warm up")
	// One copy with the trace fields, and the store's encrypted one. Sealed: the copy with the trace fields,
	// the sealed message, which is 1.37 times as long, and the store's encrypted one of that.
	if got := accept("in plain"); got > 2.1 {
		t.Errorf("in plain: %.2f times the message's size", got)
	}
	if got := accept("[CONFIDENTIAL] sealed"); got > 3.9 {
		t.Errorf("sealed: %.2f times the message's size", got)
	}
}

package intake

import (
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// decoded is the header of a message of one part, and its text.
func decoded(t *testing.T, data []byte) (message.Header, string) {
	t.Helper()
	h := message.ParseHeader(data, message.Limits{})
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(string(data[h.Len():]))))
	if err != nil {
		t.Fatal(err)
	}
	return h, string(text)
}

func TestWarn(t *testing.T) {
	w := newWorld(t)
	warning := storage.Warning{
		Account: w.principal("bob").Account, Percent: 80,
		Usage: storage.Usage{Size: 900 << 20, Messages: 3, Quota: storage.Quota{Octets: 1 << 30, Messages: 1000}},
	}
	w.must(w.in.Warn(t.Context(), warning, mail.Address{}))
	d := w.last()
	if d.Tells == nil || *d.Tells != warning || len(d.Bodies) != 1 || w.uids(d.Bodies[0]) != "bob" || d.Bodies[0].Entries[0].Department != "works.gov.example" {
		t.Fatalf("%+v", d)
	}
	h, text := decoded(t, d.Bodies[0].Data)
	if h.Get("To") != "<bob@works.gov.example>" || h.Get("Auto-Submitted") != "auto-generated" || message.DecodeWords(h.Get("Subject")) != "Your mailbox is 80% full 您的郵箱用量已達 80%" {
		t.Errorf("%s", d.Bodies[0].Data)
	}
	for _, want := range []string{"Your mailbox holds 80 per cent or more", "您的郵箱用量已達配額的 80%", "900.0 MiB / 1.0 GiB\r\n", "3 / 1000 messages"} {
		if !strings.Contains(text, want) {
			t.Errorf("the warning does not say %q:\n%s", want, text)
		}
	}

	all := storage.Warning{Department: "health.gov.example", Percent: 95, Usage: storage.Usage{Size: 1, Quota: storage.Quota{Octets: 1 << 20}}}
	w.must(w.in.Warn(t.Context(), all, mail.MustParseAddress("carol@health.gov.example")))
	_, text = decoded(t, w.last().Bodies[0].Data)
	if got := w.uids(w.last().Bodies[0]); got != "carol" || !strings.Contains(text, "All mailboxes of health.gov.example together hold 95 per cent") || strings.Contains(text, "messages") {
		t.Errorf("to %s:\n%s", got, text)
	}
	if err := w.in.Warn(t.Context(), all, mail.MustParseAddress("chief@partner.example")); mail.KindOf(err) != mail.Refused {
		t.Errorf("without a way: %v", err)
	}
	w.withQueue()
	w.must(w.in.Warn(t.Context(), all, mail.MustParseAddress("chief@partner.example")))
	if b := w.last().Bodies[0]; len(b.Queue) != 1 || !strings.Contains(string(b.Queue[0].Data), `"address":"chief@partner.example"`) {
		t.Errorf("%+v", b)
	}
	if err := w.in.Warn(t.Context(), storage.Warning{Account: "nobody"}, mail.Address{}); mail.KindOf(err) != mail.NotFound {
		t.Errorf("who is not in the directory: %v", err)
	}
}

package intake

import (
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

// BenchmarkAccept is ordinary mail of 4 KiB from outside to one of seven people, with the
// real directory and store, from 64 senders.
func BenchmarkAccept(b *testing.B) {
	w, _ := withStore(b)
	text := crlf("From: <sender@example.org>\nTo: <bob@works.gov.example>\nSubject: load\nDate: Mon, 2 Jan 2006 15:04:05 +0000\nMessage-ID: <1@x>\n\n" + strings.Repeat(strings.Repeat("x", 76)+"\n", 50))
	to := w.addresses("alice bob carol dave erin frank grace")
	b.SetBytes(int64(len(text)))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			env := &mail.Envelope{From: mail.MustParseAddress("sender@example.org"), To: to[i%7 : i%7+1], Client: mail.Client{Protocol: "smtp", Remote: "192.0.2.1:25", Helo: "mx.example.org"}}
			if err := w.in.Resolve(b.Context(), env, env.To[0]); err != nil {
				b.Error(err)
				return
			}
			if _, err := w.in.Accept(b.Context(), env, text); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkSubmit is submissions of 4 KiB from bob to alice, whose key is RSA-2048, and to carol, plain and
// confidential: then they are sealed to all three, whose other keys and the domain's are on P-256.
func BenchmarkSubmit(b *testing.B) {
	for _, label := range []string{"", "X-Classification: confidential\n"} {
		name := "plain"
		if label != "" {
			name = "confidential"
		}
		b.Run(name, func(b *testing.B) {
			w, _ := withStore(b)
			text := crlf("From: <bob@works.gov.example>\nTo: <alice@works.gov.example>, <carol@health.gov.example>\nSubject: load\nDate: Mon, 2 Jan 2006 15:04:05 +0000\nMessage-ID: <1@x>\n" + label + "\n" + strings.Repeat(strings.Repeat("x", 76)+"\n", 50))
			bob, to := w.principal("bob"), w.addresses("alice carol")
			b.SetBytes(int64(len(text)))
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					env := &mail.Envelope{From: bob.Address, Sender: bob, To: to, Client: mail.Client{Protocol: "submission", Remote: "192.0.2.1:25", Helo: "a"}}
					if _, err := w.in.Accept(b.Context(), env, text); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

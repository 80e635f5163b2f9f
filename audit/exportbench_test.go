package audit

import (
	"context"
	"fmt"
	"io"
	"testing"
)

// BenchmarkExport writes 100,000 records in each form.
func BenchmarkExport(b *testing.B) {
	const n = 100_000
	o := testOptions()
	o.disk = func(d disk) disk { return noSync{d} }
	l, dir := newLog(b, o)
	for i := range n {
		l.Note(Event{Type: MailRefused, Actor: "alice", Subject: fmt.Sprint("message ", i), Client: "127.0.0.1:5", Outcome: "refuse", Detail: map[string]string{
			"from": "alice@works.gov.example", "to": "bob@works.gov.example", "label": "confidential", "reason": "carol@health.gov.example has no certificate",
		}})
		if i%1000 == 999 {
			mustFlush(b, l)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	run := func(name string, write func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := write(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
	for _, f := range Formats() {
		run(string(f), func() error { return Export{Format: f}.Write(context.Background(), dir, io.Discard) })
	}
	run("extract", func() error { return Export{Filter: Filter{First: 1}}.Extract(context.Background(), dir, io.Discard) })
}

package metrics

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestWrite(t *testing.T) {
	var s Set
	c := s.Counter("mail_total", "Messages.", "protocol", "outcome")
	c.Inc("smtp", "refused")
	c.Add(2, "smtp", "accepted")
	s.Counter("plain_total", "Without labels.")
	l := s.Level("connections", "Open.", "service", "imap", "mx")
	l.Add("mx", 3)
	l.Add("mx", -1)
	h := s.Histogram("flush_seconds", "Flushes.", time.Millisecond, 10*time.Millisecond)
	for _, d := range []time.Duration{time.Millisecond, 2 * time.Millisecond, time.Second} {
		h.Observe(d)
	}
	s.Info("build_info", "A\\B\nC", "version", `1"2\3`)
	s.Gauge("half", "Asked.", func() float64 { return 0.5 })
	var out strings.Builder
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := `# HELP mail_total Messages.
# TYPE mail_total counter
mail_total{protocol="smtp",outcome="accepted"} 2
mail_total{protocol="smtp",outcome="refused"} 1
# HELP plain_total Without labels.
# TYPE plain_total counter
plain_total 0
# HELP connections Open.
# TYPE connections gauge
connections{service="imap"} 0
connections{service="mx"} 2
# HELP flush_seconds Flushes.
# TYPE flush_seconds histogram
flush_seconds_bucket{le="0.001"} 1
flush_seconds_bucket{le="0.01"} 2
flush_seconds_bucket{le="+Inf"} 3
flush_seconds_sum 1.003
flush_seconds_count 3
# HELP build_info A\\B\nC
# TYPE build_info gauge
build_info{version="1\"2\\3"} 1
# HELP half Asked.
# TYPE half gauge
half 0.5
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestProcess(t *testing.T) {
	var s Set
	AddProcess(&s, time.Unix(1, 500e6))
	var out strings.Builder
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"go_goroutines", "go_memstats_heap_alloc_bytes", "go_memstats_sys_bytes", "go_memstats_alloc_bytes_total",
		"process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_resident_memory_bytes",
	} {
		if !regexp.MustCompile(`(?m)^` + name + ` [0-9.e+]*[1-9]`).MatchString(out.String()) {
			t.Errorf("%s is not above zero in\n%s", name, out.String())
		}
	}
	if !strings.Contains(out.String(), "\nprocess_start_time_seconds 1.5\n") {
		t.Error("the start is wrong")
	}
}

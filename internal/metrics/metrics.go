// Package metrics counts what happens and writes the counts in Prometheus' text exposition format, version 0.0.4. It
// knows nothing of the platform: what is counted, and under which labels, is decided where it is wired together. Label
// values must come from small closed sets, never from mail, names or addresses.
package metrics

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Set is a collection of metrics. The zero value is empty and ready. Metrics are added before the first Write; all
// methods of the metrics and Write may be called concurrently.
type Set struct{ families []family }

type family struct {
	name, help, kind string
	samples          func(emit func(suffix string, labels, values []string, v float64))
}

// Counter counts events, apart for each combination of label values.
type Counter struct {
	labels []string
	cells  sync.Map // of the label values joined by 0 to *cell
}

type cell struct {
	values []string
	n      atomic.Uint64
}

// Counter adds a counter to the set. name should end in _total.
func (s *Set) Counter(name, help string, labels ...string) *Counter {
	c := &Counter{labels: labels}
	s.families = append(s.families, family{name, help, "counter", c.samples})
	return c
}

// Inc counts one event. There must be as many values as the counter has labels.
func (c *Counter) Inc(values ...string) { c.Add(1, values...) }

// Add counts n events.
func (c *Counter) Add(n int, values ...string) {
	key := strings.Join(values, "\x00")
	v, ok := c.cells.Load(key)
	if !ok {
		v, _ = c.cells.LoadOrStore(key, &cell{values: slices.Clone(values)})
	}
	v.(*cell).n.Add(uint64(n))
}

func (c *Counter) samples(emit func(string, []string, []string, float64)) {
	var cells []*cell
	c.cells.Range(func(_, v any) bool {
		cells = append(cells, v.(*cell))
		return true
	})
	if len(cells) == 0 && len(c.labels) == 0 {
		emit("", nil, nil, 0)
	}
	slices.SortFunc(cells, func(a, b *cell) int { return slices.Compare(a.values, b.values) })
	for _, x := range cells {
		emit("", c.labels, x.values, float64(x.n.Load()))
	}
}

// Gauge adds a number that is asked for when it is written.
func (s *Set) Gauge(name, help string, value func() float64) {
	s.asked(name, help, "gauge", value)
}

// CounterFunc adds a counter that somebody else keeps.
func (s *Set) CounterFunc(name, help string, value func() float64) {
	s.asked(name, help, "counter", value)
}

func (s *Set) asked(name, help, kind string, value func() float64) {
	s.families = append(s.families, family{name, help, kind, func(emit func(string, []string, []string, float64)) {
		emit("", nil, nil, value())
	}})
}

// Info adds a gauge that is always 1 and says something in its labels: names and values by turns.
func (s *Set) Info(name, help string, pairs ...string) {
	var labels, values []string
	for i := 0; i+1 < len(pairs); i += 2 {
		labels, values = append(labels, pairs[i]), append(values, pairs[i+1])
	}
	s.families = append(s.families, family{name, help, "gauge", func(emit func(string, []string, []string, float64)) {
		emit("", labels, values, 1)
	}})
}

// Level is a number that goes up and down, one for each value of its label.
type Level struct {
	label string
	order []string
	n     map[string]*atomic.Int64
}

// Level adds a Level for the given values of the label.
func (s *Set) Level(name, help, label string, values ...string) *Level {
	l := &Level{label, values, make(map[string]*atomic.Int64)}
	for _, v := range values {
		l.n[v] = new(atomic.Int64)
	}
	s.families = append(s.families, family{name, help, "gauge", func(emit func(string, []string, []string, float64)) {
		for _, v := range l.order {
			emit("", []string{label}, []string{v}, float64(l.n[v].Load()))
		}
	}})
	return l
}

// Add moves the level of value, which must be one of those given when it was made.
func (l *Level) Add(value string, by int) { l.n[value].Add(int64(by)) }

// Histogram counts how long something took.
type Histogram struct {
	bounds  []time.Duration
	buckets []atomic.Uint64 // one for each bound, and one for what is above
	sum     atomic.Int64    // nanoseconds
}

// Histogram adds a histogram, in seconds, with the given ascending upper bounds.
func (s *Set) Histogram(name, help string, bounds ...time.Duration) *Histogram {
	h := &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
	s.families = append(s.families, family{name, help, "histogram", h.samples})
	return h
}

// Observe counts one.
func (h *Histogram) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d)
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *Histogram) samples(emit func(string, []string, []string, float64)) {
	var n uint64
	for i := range h.buckets {
		n += h.buckets[i].Load()
		le := "+Inf"
		if i < len(h.bounds) {
			le = number(h.bounds[i].Seconds())
		}
		emit("_bucket", []string{"le"}, []string{le}, float64(n))
	}
	emit("_sum", nil, nil, time.Duration(h.sum.Load()).Seconds())
	emit("_count", nil, nil, float64(n))
}

// ContentType is the media type of what Write writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Write writes all metrics.
func (s *Set) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, f := range s.families {
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", f.name, helpText.Replace(f.help), f.name, f.kind)
		f.samples(func(suffix string, labels, values []string, v float64) {
			out.WriteString(f.name + suffix)
			for i, l := range labels {
				fmt.Fprintf(out, "%c%s=\"%s\"", "{,"[min(i, 1)], l, labelValue.Replace(values[i]))
			}
			if len(labels) > 0 {
				out.WriteByte('}')
			}
			out.WriteString(" " + number(v) + "\n")
		})
	}
	return out.Flush()
}

var (
	helpText   = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

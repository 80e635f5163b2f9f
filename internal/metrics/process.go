package metrics

import (
	"bytes"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// AddProcess adds what is known of the process and of Go's runtime, under the names that Prometheus' own library uses.
func AddProcess(s *Set, started time.Time) {
	s.Info("go_info", "The Go version that built this program.", "version", runtime.Version())
	for _, m := range []struct{ source, name, help, kind string }{
		{"/sched/goroutines:goroutines", "go_goroutines", "Goroutines that exist now.", "gauge"},
		{"/memory/classes/heap/objects:bytes", "go_memstats_heap_alloc_bytes", "Memory of live and not yet swept objects.", "gauge"},
		{"/memory/classes/total:bytes", "go_memstats_sys_bytes", "Memory that the runtime has mapped.", "gauge"},
		{"/gc/heap/allocs:bytes", "go_memstats_alloc_bytes_total", "Memory allocated since the start.", "counter"},
		{"/gc/cycles/total:gc-cycles", "go_gc_cycles_total", "Garbage collections since the start.", "counter"},
		{"/cpu/classes/gc/total:cpu-seconds", "go_gc_cpu_seconds_total", "CPU time of the garbage collector, as estimated.", "counter"},
	} {
		s.asked(m.name, m.help, m.kind, func() float64 { return sample(m.source) })
	}
	s.Gauge("process_start_time_seconds", "When the process began, in Unix time.", func() float64 { return float64(started.UnixMilli()) / 1000 })
	s.CounterFunc("process_cpu_seconds_total", "CPU time used, user and system.", cpuSeconds)
	s.Gauge("process_open_fds", "Open file descriptors.", openFiles)
	s.Gauge("process_max_fds", "Allowed file descriptors.", maxFiles)
	s.Gauge("process_resident_memory_bytes", "Resident memory.", residentBytes)
}

func sample(name string) float64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	switch s[0].Value.Kind() {
	case metrics.KindUint64:
		return float64(s[0].Value.Uint64())
	case metrics.KindFloat64:
		return s[0].Value.Float64()
	}
	return 0
}

func cpuSeconds() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func openFiles() float64 {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0
	}
	return float64(len(names) - 1) // d itself
}

func maxFiles() float64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return float64(l.Cur)
}

func residentBytes() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return float64(pages * int64(os.Getpagesize()))
}

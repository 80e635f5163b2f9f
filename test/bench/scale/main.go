// Command scale measures whether what one message costs depends on how many there are: it fills stores of growing size
// and prints tables in Markdown. -messages and -accounts say how far it goes; each step is ten times the last.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

func main() {
	messages := flag.Int("messages", 100_000, "the largest mailbox")
	accounts := flag.Int("accounts", 10_000, "the largest number of accounts")
	dir := flag.String("dir", "", "where to make the stores, which are removed afterwards; the system's temporary folder")
	flag.Parse()
	if err := run(*dir, *messages, *accounts); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(dir string, messages, accounts int) error {
	dir, err := os.MkdirTemp(dir, "cmmpd-scale-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing of it is needed
	return errors.Join(
		mailboxTable(filepath.Join(dir, "mailbox"), messages),
		accountTable(filepath.Join(dir, "accounts"), accounts),
		freelistTable(dir, messages),
	)
}

// bench is a store to measure.
type bench struct {
	dir string
	ks  keys.Keystore
	s   *storage.Store
	rnd *rand.Rand
	n   int // messages made
}

func newBench(dir string) (*bench, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ks, err := keys.CreateFile(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"store", "blind"} {
		err = errors.Join(err, ks.Generate(keys.Service, name, keys.KindAES256))
	}
	err = errors.Join(err, ks.Generate(keys.Mail, "platform", keys.KindAES256))
	return &bench{dir: dir, ks: ks, rnd: rand.New(rand.NewPCG(1, 2))}, err
}

func (b *bench) open() (err error) {
	b.s, err = storage.Open(context.Background(), storage.Options{Dir: filepath.Join(b.dir, "store"), Keys: b.ks})
	return err
}

// reopen closes the store and says how long opening it takes.
func (b *bench) reopen() (time.Duration, error) {
	if err := b.s.Close(); err != nil {
		return 0, err
	}
	begin := time.Now()
	err := b.open()
	return time.Since(begin), err
}

// message is a message of 1 KiB.
func (b *bench) message() ([]byte, *message.Index) {
	b.n++
	head := fmt.Sprintf("From: sender@example.org\r\nTo: someone@works.gov.example\r\nSubject: message %d\r\nMessage-ID: <%d@example.org>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0800\r\n\r\n", b.n, b.n)
	data := []byte(head + strings.Repeat("some text of a message\r\n", (1024-len(head))/24))
	return data, message.Parse(data, message.Limits{})
}

func (b *bench) deliver(id mail.AccountID) error {
	data, index := b.message()
	_, err := b.s.Deliver(context.Background(), storage.Delivery{Bodies: []storage.Body{{Data: data, Index: index, Entries: []storage.NewEntry{{Account: id}}}}})
	return err
}

// cost is the median of the time, and the mean of the processor time, that f takes.
type cost struct{ wall, cpu time.Duration }

func (c cost) String() string {
	return fmt.Sprintf("%s (%s)", short(c.wall), short(c.cpu))
}

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < 10*time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func measure(times int, f func() error) (cost, error) {
	list := make([]time.Duration, 0, times)
	before := processorTime()
	for range times {
		begin := time.Now()
		if err := f(); err != nil {
			return cost{}, err
		}
		list = append(list, time.Since(begin))
	}
	cpu := (processorTime() - before) / time.Duration(times)
	slices.Sort(list)
	return cost{list[len(list)/2], cpu}, nil
}

// heap is the memory in use, in MiB.
func heap() string {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return fmt.Sprintf("%.0f MiB", float64(m.HeapAlloc)/(1<<20))
}

// fileSize is the size of a file of the store that is really used, in MiB.
func (b *bench) indexSize() string {
	st, err := os.Stat(filepath.Join(b.dir, "store", "index.db"))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%.0f MiB", float64(st.Size())/(1<<20))
}

func row(cells ...any) {
	for _, c := range cells {
		fmt.Printf("| %v ", c)
	}
	fmt.Println("|")
}

func header(title string, cells ...any) {
	fmt.Printf("\n%s\n\n", title)
	row(cells...)
	fmt.Println(strings.Repeat("|---", len(cells)) + "|")
}

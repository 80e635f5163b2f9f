package audit

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

func TestLoginsAreFolded(t *testing.T) {
	o := testOptions()
	o.Interval = time.Hour
	l, dir := newLog(t, o)
	login := func(actor, client, outcome string) {
		l.Note(Event{Type: AuthLogin, Actor: actor, Client: client, Outcome: outcome})
	}
	for i := range 5 {
		login("alice", fmt.Sprint("192.0.2.1:", 4000+i), "ok")
		login("alice", "[2001:db8::1]:4000", "ok")
	}
	login("alice", "192.0.2.1:1", "authentication failed")
	l.Note(Event{Type: MailRefused, Actor: "alice"})
	l.Note(Event{Type: MailRefused, Actor: "alice"})
	mustFlush(t, l)
	login("alice", "192.0.2.1:1", "ok")
	mustFlush(t, l)
	mustVerify(t, dir, nil)
	got := records(t, dir)
	type short struct {
		typ, client, outcome string
		count                int64
	}
	want := []short{
		{AuthLogin, "192.0.2.1", "ok", 5},
		{AuthLogin, "2001:db8::1", "ok", 5},
		{AuthLogin, "192.0.2.1", "authentication failed", 0},
		{MailRefused, "", "", 0},
		{MailRefused, "", "", 0},
		{AuthLogin, "192.0.2.1", "ok", 0},
	}
	if len(got) != len(want) {
		t.Fatalf("%d records: %+v", len(got), got)
	}
	for i, r := range got {
		if s := (short{r.Type, r.Client, r.Outcome, r.Count}); s != want[i] {
			t.Errorf("record %d: %+v, want %+v", i, s, want[i])
		}
	}
	if d := got[0].Last.Sub(got[0].Time); d != 8*time.Second {
		t.Errorf("first and last are %v apart", d)
	}
}

// fullDisk is a disk that somebody may fill.
type fullDisk struct {
	disk
	full *atomic.Bool
}

func (d fullDisk) create(name string) (diskFile, error) {
	if d.full.Load() {
		return nil, fmt.Errorf("creating %s: %w", name, syscall.ENOSPC)
	}
	return d.disk.create(name)
}

func TestDiskFullAndHealed(t *testing.T) {
	ctx := context.Background()
	var full atomic.Bool
	o := testOptions()
	o.Interval, o.Queue = time.Hour, 10
	o.disk = func(d disk) disk { return fullDisk{noSync{d}, &full} }
	l, dir := newLog(t, o)
	act, err := l.Begin(ctx, Event{Type: StoreCheck, Actor: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if _, err := l.Begin(ctx, Event{Type: StoreCheck}); mail.KindOf(err) != mail.Full {
		t.Errorf("Begin on a full disk: %v", err)
	}
	if err := act.End(ctx, nil); mail.KindOf(err) != mail.Full {
		t.Errorf("End on a full disk: %v", err)
	}
	for i := range 10 {
		l.Note(Event{Type: MailSealed, Subject: fmt.Sprint(i)})
	}
	if err := l.Flush(ctx); mail.KindOf(err) != mail.Full {
		t.Errorf("Flush on a full disk: %v", err)
	}
	for i := range 7 {
		l.Note(Event{Type: MailSealed, Subject: fmt.Sprint("lost ", i)})
	}
	if l.Ready() == nil {
		t.Error("ready on a full disk")
	}
	mustVerify(t, dir, nil)
	full.Store(false)
	if err := act.End(ctx, nil); err != nil {
		t.Errorf("End after room was made: %v", err)
	}
	l.Note(Event{Type: MailSealed, Subject: "later"})
	mustFlush(t, l)
	if err := l.Ready(); err != nil {
		t.Error(err)
	}
	mustVerify(t, dir, nil)
	got := records(t, dir)
	if len(got) != 14 || got[1].Subject != "0" || got[10].Subject != "9" || got[11].Type != AuditGap || got[11].Count != 7 ||
		got[12].Phase != "end" || got[13].Subject != "later" {
		t.Errorf("%d records: %+v", len(got), got)
	}
}

// failDisk fails to flush a file.
type failDisk struct {
	disk
	fail *atomic.Bool
}

func (d failDisk) syncDir(name string) error {
	if d.fail.Load() {
		return syscall.EIO
	}
	return nil
}

func TestFailedFlushStopsTheLog(t *testing.T) {
	ctx := context.Background()
	var fail atomic.Bool
	o := testOptions()
	o.disk = func(d disk) disk { return failDisk{noSync{d}, &fail} }
	l, dir := newLog(t, o)
	mustRecord(t, l, 3)
	kept := l.Checkpoint()
	fail.Store(true)
	if err := l.Record(ctx, Event{Type: StoreCheck}); mail.KindOf(err) != mail.Unavailable || !errors.Is(err, syscall.EIO) {
		t.Errorf("a failed flush: %v", err)
	}
	fail.Store(false)
	for range 2 {
		if err := l.Record(ctx, Event{Type: StoreCheck}); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("after a failed flush: %v", err)
		}
		if err := l.Flush(ctx); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("after a failed flush: %v", err)
		}
	}
	l.Note(Event{Type: ServerStop})
	if l.Ready() == nil {
		t.Error("ready after a failed flush")
	}
	l.Close()
	l = openLog(t, dir, o)
	mustRecord(t, l, 1)
	mustVerify(t, dir, kept)
}

// heldDisk lets a commit wait until the test lets it go.
type heldDisk struct {
	disk
	held chan struct{}
}

func (d heldDisk) create(name string) (diskFile, error) {
	<-d.held
	return d.disk.create(name)
}

func TestGivingUpWaiting(t *testing.T) {
	held := make(chan struct{})
	o := testOptions()
	dir := memDir(t) + "/audit"
	if err := Create(dir, testKey(), o); err != nil {
		t.Fatal(err)
	}
	o.disk = func(d disk) disk { return heldDisk{noSync{d}, held} }
	l := openLog(t, dir, o)
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error)
	for range 3 {
		go func() { errs <- l.Record(ctx, Event{Type: StoreCheck}) }()
	}
	held <- struct{}{} // the writer is at work by now
	cancel()
	for range 3 {
		if err := <-errs; mail.KindOf(err) != mail.Unavailable || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	if err := l.Record(ctx, Event{Type: StoreCheck}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	close(held)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, nil); r.Records < 1 || r.Records > 3 {
		t.Errorf("%d records", r.Records)
	}
}

func TestCloseWritesNotes(t *testing.T) {
	o := testOptions()
	o.Interval = time.Hour
	l, dir := newLog(t, o)
	for i := range 1000 {
		l.Note(Event{Type: MailSealed, Subject: fmt.Sprint(i)})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Note(Event{Type: MailSealed})
	if r := mustVerify(t, dir, nil); r.Records != 1000 {
		t.Errorf("%d records", r.Records)
	}
	for i, r := range records(t, dir) {
		if r.Subject != fmt.Sprint(i) {
			t.Fatalf("record %d is %q", i, r.Subject)
		}
	}
}

// A clock that is set back, while the log is open or while it is closed, is on record and in
// the report; times stay as they were stamped.
func TestClockStepsBack(t *testing.T) {
	o := testOptions()
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Unix())
	o.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	l, dir := newLog(t, o)
	mustRecord(t, l, 2)
	now.Add(-3)
	mustRecord(t, l, 1) // a correction
	if r := mustVerify(t, dir, nil); r.StepsBack != 0 || r.ClockRecords != 0 || r.FirstStep != -1 {
		t.Errorf("%+v", r)
	}
	now.Add(-3600)
	mustRecord(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	now.Add(-7200)
	l = openLog(t, dir, o)
	mustRecord(t, l, 1)
	if r := mustVerify(t, dir, nil); r.StepsBack != 2 || r.ClockRecords != 2 || r.FirstStep != 3 || r.Records != 8 {
		t.Errorf("%+v", r)
	}
	got := records(t, dir)
	if got[3].Type != ClockBack || got[3].Detail["by"] != "1h0m3s" || got[6].Type != ClockBack || got[6].Detail["by"] != "2h0m0s" {
		t.Errorf("%+v", got)
	}
	if l := got[7].Time.Unix(); l != now.Load() {
		t.Errorf("the time was changed: %v", got[7])
	}
}

// A clock that is set back by less than has passed since the last commit shows by the
// monotonic clock.
func TestClockAgainstMonotonic(t *testing.T) {
	var c clock
	start := time.Now()
	if _, back := c.look(start); back {
		t.Error("at once")
	}
	later := start.Add(time.Hour)
	if _, back := c.look(later); back {
		t.Error("an hour later")
	}
	// The monotonic clock says two hours, the clock of the day one and a half.
	set := later.Add(time.Hour)
	c.since = later.Add(-30 * time.Minute)
	c.wall = stamp(later)
	if e, back := c.look(set); back {
		t.Errorf("forward: %v", e)
	}
}

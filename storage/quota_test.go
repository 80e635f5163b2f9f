package storage

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// quotaWorld is a store with quotas, and what it warned of.
type quotaWorld struct {
	t      *testing.T
	s      *Store
	o      Options
	n      int64 // octets of a message
	warned []Warning
}

func newQuotaWorld(t *testing.T, q Quotas) *quotaWorld {
	w := &quotaWorld{t: t, n: int64(len(testMessage("one", "text")))}
	for _, p := range []*Quota{&q.Account, &q.Department} { // in messages
		p.Octets *= w.n
	}
	w.o = Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), Quotas: q, Warn: func(x Warning) { w.warned = append(w.warned, x) }}
	w.s = mustOpen(t, w.o)
	t.Cleanup(func() { _ = w.s.Close() })
	return w
}

// deliver brings a message to accounts, named "account@department".
func (w *quotaWorld) deliver(tells *Warning, to ...string) error {
	data := testMessage("one", "text")
	b := Body{Data: data, Index: message.Parse(data, message.Limits{})}
	for _, a := range to {
		addr := mail.MustParseAddress(a)
		b.Entries = append(b.Entries, NewEntry{Account: mail.AccountID(addr.Local), Department: addr.Domain})
	}
	_, err := w.s.Deliver(context.Background(), Delivery{Bodies: []Body{b}, Tells: tells})
	w.settle()
	return err
}

// settle returns when all that is due has been warned of: the committer does that when it has let go those who wait.
func (w *quotaWorld) settle() {
	w.t.Helper()
	w.must(w.s.tell(func() error { return nil }))
}

func (w *quotaWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// full checks that err says that these have no room.
func (w *quotaWorld) full(err error, ids ...mail.AccountID) {
	w.t.Helper()
	var full *FullError
	if !errors.As(err, &full) || mail.KindOf(err) != mail.OverQuota || !slices.Equal(slices.Sorted(slices.Values(full.Accounts)), ids) {
		w.t.Errorf("%v, want that %v are full", err, ids)
	}
}

// holds checks what an account and its department hold, in messages.
func (w *quotaWorld) holds(id mail.AccountID, own int64, department string, all int64) {
	w.t.Helper()
	a, err := w.s.OpenAccount(context.Background(), id)
	w.must(err)
	defer func() { _ = a.Close() }()
	u, err := a.Usage(context.Background())
	w.must(err)
	d, t, err := a.DepartmentUsage(context.Background())
	w.must(err)
	if u.Messages != own || u.Size != own*w.n || d != department || t.Messages != all || t.Size != all*w.n {
		w.t.Errorf("%s holds %+v, %s %+v", id, u, d, t)
	}
	checkClean(w.t, w.s)
}

// expunge removes the first message.
func (w *quotaWorld) expunge(id mail.AccountID) {
	w.t.Helper()
	ctx := context.Background()
	a, err := w.s.OpenAccount(ctx, id)
	w.must(err)
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	w.must(err)
	defer m.Close()
	msgs, _ := m.Snapshot()
	first := imap.UIDSetNum(imap.UID(msgs[0].UID))
	_, _, err = m.StoreFlags(ctx, first, AddFlags, []string{FlagDeleted}, 0)
	w.must(err)
	_, err = m.Expunge(ctx, &first)
	w.must(err)
	w.settle()
}

func TestQuotaOfMessages(t *testing.T) {
	w := newQuotaWorld(t, Quotas{Account: Quota{Messages: 2}})
	w.must(w.deliver(nil, "a@x.example"))
	w.must(w.deliver(nil, "a@x.example", "b@x.example"))
	w.full(w.s.Room(context.Background(), "a", 0), "a")
	w.full(w.deliver(nil, "a@x.example", "b@x.example"), "a")
	w.must(w.deliver(nil, "b@x.example"))
	w.full(w.deliver(nil, "a@x.example", "b@x.example"), "a", "b")
	w.expunge("a")
	w.must(w.deliver(nil, "a@x.example"))
	w.holds("a", 2, "x.example", 4)
}

func TestQuotaOfDepartments(t *testing.T) {
	ctx := context.Background()
	w := newQuotaWorld(t, Quotas{Department: Quota{Octets: 3}, Departments: map[string]DepartmentQuota{
		"rich.example": {}, "poor.example": {Account: Quota{Messages: 1}, Total: Quota{Messages: 2}},
	}})
	for range 3 {
		w.must(w.deliver(nil, "a@x.example"))
		w.must(w.deliver(nil, "r@rich.example"))
	}
	w.full(w.deliver(nil, "b@x.example", "a@x.example", "r@rich.example"), "a", "b")
	w.full(w.s.Room(ctx, "a", 0), "a")
	w.must(w.deliver(nil, "r@rich.example"))
	w.must(w.deliver(nil, "p@poor.example", "q@poor.example"))
	w.full(w.deliver(nil, "p@poor.example"), "p")
	w.full(w.deliver(nil, "z@poor.example"), "z")
	w.holds("a", 3, "x.example", 3)
	w.expunge("a")
	w.must(w.deliver(nil, "b@x.example"))
	w.holds("b", 1, "x.example", 3)

	w.must(w.s.EnsureAccount(ctx, "a", "rich.example")) // who moves takes along what they hold, whether there is room or not
	w.holds("a", 2, "rich.example", 6)
	w.holds("b", 1, "x.example", 1)
	w.must(w.s.EnsureAccount(ctx, "r", "poor.example"))
	w.holds("r", 4, "poor.example", 6)
	w.must(w.s.Close())
	w.s = mustOpen(t, w.o)
	w.holds("a", 2, "rich.example", 2)
	w.expunge("r") // what makes it smaller is good, though it is over the quota still
	w.holds("r", 3, "poor.example", 5)
}

// TestAccountFromBefore: one whose department nobody has said counts in none, until somebody says.
func TestAccountFromBefore(t *testing.T) {
	ctx := context.Background()
	o := fixture(t, "format1")
	o.Quotas = Quotas{Department: Quota{Messages: 3}}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if d, u, err := a.DepartmentUsage(ctx); d != "" || u != (Usage{}) || err != nil {
		t.Errorf("%q %+v, %v", d, u, err)
	}
	if err := s.EnsureAccount(ctx, alice, "x.example"); err != nil {
		t.Fatal(err)
	}
	if d, u, err := a.DepartmentUsage(ctx); d != "x.example" || u.Messages != 5 || u.Quota.Messages != 3 || err != nil {
		t.Errorf("%q %+v, %v", d, u, err)
	}
	checkClean(t, s)
}

// TestWarningsAtTheEdge: who goes over a threshold and back again and again is told once.
func TestWarningsAtTheEdge(t *testing.T) {
	w := newQuotaWorld(t, Quotas{Account: Quota{Messages: 40}, Warn: []int{1, 50}})
	for range 19 {
		w.must(w.deliver(nil, "a@x.example"))
	}
	w.must(w.deliver(&Warning{Account: "a", Percent: 1}, "a@x.example"))
	w.must(w.deliver(&Warning{Account: "a", Percent: 50}, "a@x.example")) // there are 21
	w.warned = nil
	for range 3 {
		w.expunge("a")
		w.expunge("a")
		w.must(w.deliver(nil, "a@x.example"))
		w.must(w.deliver(nil, "a@x.example"))
	}
	if len(w.warned) > 0 {
		t.Errorf("told again: %+v", w.warned)
	}
	for range 4 { // to 17, below 45 per cent
		w.expunge("a")
	}
	for range 4 {
		w.must(w.deliver(nil, "a@x.example"))
	}
	if len(w.warned) != 2 || w.warned[0].Percent != 50 {
		t.Errorf("at 20 and 21: %+v", w.warned)
	}
	for range 20 { // to 1, not yet below half a per cent
		w.expunge("a")
	}
	w.warned = nil
	w.must(w.deliver(nil, "a@x.example"))
	if len(w.warned) > 0 {
		t.Errorf("told again: %+v", w.warned)
	}
	checkClean(t, w.s)
}

// TestWarnings: asked for with each change above a threshold until it is told, told once, and again only after it has
// fallen below. There is always room for a warning.
func TestWarnings(t *testing.T) {
	w := newQuotaWorld(t, Quotas{Account: Quota{Messages: 10}, Department: Quota{Messages: 40}, Warn: []int{50, 100}})
	percents := func(department string) []int {
		var list []int
		for _, x := range w.warned {
			if x.Department == department {
				list = append(list, x.Percent)
			}
		}
		w.warned = nil
		return list
	}
	for range 4 {
		w.must(w.deliver(nil, "a@x.example"))
	}
	if got := percents(""); len(got) > 0 {
		t.Errorf("too early: %v", got)
	}
	w.must(w.deliver(nil, "a@x.example"))
	w.must(w.deliver(nil, "a@x.example"))
	if len(w.warned) != 2 || w.warned[1] != (Warning{Account: "a", Percent: 50, Usage: Usage{6, 6 * w.n, w.o.Quotas.Account}}) {
		t.Errorf("%+v", w.warned)
	}
	told := w.warned[0]
	w.warned = nil
	w.must(w.deliver(&told, "a@x.example"))
	if err := w.deliver(&told, "a@x.example"); mail.KindOf(err) != mail.Exists {
		t.Errorf("told twice: %v", err)
	}
	w.must(w.deliver(nil, "a@x.example"))
	if got := percents(""); len(got) > 0 {
		t.Errorf("after it was told: %v", got)
	}
	w.must(w.s.Close()) // it is remembered
	w.s = mustOpen(t, w.o)
	w.must(w.deliver(nil, "a@x.example"))
	w.must(w.deliver(nil, "a@x.example"))
	if got := percents(""); !slices.Equal(got, []int{100}) {
		t.Errorf("at the top: %v", got)
	}
	w.full(w.deliver(nil, "a@x.example"), "a")
	full := Warning{Account: "a", Percent: 100}
	w.must(w.deliver(&full, "a@x.example"))
	w.holds("a", 11, "x.example", 11)
	for range 8 {
		w.expunge("a")
	}
	if err := w.deliver(&told, "a@x.example"); mail.KindOf(err) != mail.Exists {
		t.Errorf("not true any more: %v", err)
	}
	if got := percents(""); len(got) > 0 {
		t.Errorf("on the way down: %v", got)
	}
	w.must(w.deliver(nil, "a@x.example"))
	w.must(w.deliver(nil, "a@x.example"))
	if got := percents(""); !slices.Equal(got, []int{50}) {
		t.Errorf("up again: %v", got)
	}

	for range 9 {
		w.must(w.deliver(nil, "b@x.example"))
	}
	for range 6 {
		w.must(w.deliver(nil, "c@x.example"))
	}
	if got := percents("x.example"); !slices.Equal(got, []int{50}) {
		t.Errorf("department: %v", got)
	}
	w.must(w.deliver(&Warning{Department: "x.example", Percent: 50}, "chief@y.example"))
	w.must(w.deliver(nil, "c@x.example"))
	if got := percents("x.example"); len(got) > 0 {
		t.Errorf("department, after it was told: %v", got)
	}
	checkClean(t, w.s)
}

package cases

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/keys/escrow"
	"cmmpd/internal/mail"
)

// world is a desk, with accounts whose keys two of three officers have, in parts that are not encrypted: package escrow's tests have real ones.
type world struct {
	*Desk
	t    *testing.T
	o    Options
	now  time.Time
	kept map[mail.AccountID]*escrow.Envelope
}

func group(t *testing.T, uids ...string) *escrow.Group {
	t.Helper()
	var list []escrow.Officer
	for i, uid := range uids {
		list = append(list, escrow.Officer{UID: uid, Certificate: [32]byte{byte(i + 1)}, Seal: func(plain []byte) ([]byte, error) { return bytes.Clone(plain), nil }})
	}
	g, err := escrow.NewGroup(2, list)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC), kept: make(map[mail.AccountID]*escrow.Envelope)}
	w.o = Options{
		FS: durable.OS{}, Path: filepath.Join(t.TempDir(), "requests"), Hold: 8 * time.Hour, Now: func() time.Time { return w.now },
		Seal: func(b []byte) ([]byte, error) { return append([]byte("sealed "), b...), nil },
		Open: func(b []byte) ([]byte, error) { return bytes.TrimPrefix(b, []byte("sealed ")), nil },
		Envelope: func(id mail.AccountID) (*escrow.Envelope, error) {
			if e := w.kept[id]; e != nil {
				return e, nil
			}
			return nil, mail.E(mail.NotFound, "not kept", nil)
		},
	}
	g := group(t, "secoff1", "secoff2", "secoff3")
	for _, id := range []mail.AccountID{"id-alice", "id-bob"} {
		w.keep(g, id)
	}
	w.restart()
	return w
}

func (w *world) keep(g *escrow.Group, id mail.AccountID) {
	w.t.Helper()
	e, err := g.Wrap(id, []byte("key of "+id))
	if err != nil {
		w.t.Fatal(err)
	}
	w.kept[id] = e
}

func (w *world) restart() {
	w.t.Helper()
	d, err := New(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Desk = d
}

// ask asks for alice's account from in an hour, for a day.
func (w *world) ask(adjust func(*Request)) string {
	w.t.Helper()
	r := Request{
		Case: "LD/1", Reason: "court order", Requester: "records", Account: "alice", AccountID: "id-alice", Certificate: []byte("c"),
		From: w.now.Add(time.Hour), To: w.now.Add(25 * time.Hour),
	}
	if adjust != nil {
		adjust(&r)
	}
	v, err := w.Ask(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return v.ID
}

func (w *world) part(id, uid string) string {
	w.t.Helper()
	var b bytes.Buffer
	if _, err := w.Part(id, uid, func() []mail.AccountID { return []mail.AccountID{"id-alice", "id-bob", "id-new"} }, &b); err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

func (w *world) approve(id, uid, text string) error {
	_, _, err := w.Approve(id, uid, strings.NewReader(text))
	return err
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) refused(kind mail.Kind, err error) {
	w.t.Helper()
	if err == nil || mail.KindOf(err) != kind {
		w.t.Errorf("%v, not of kind %v", err, kind)
	}
}

// opens tries to open alice's account.
func (w *world) opens(id string) (string, error) {
	if err := w.Begin(id, "records", Export); err != nil {
		return "", err
	}
	secret, err := w.Secret(id, "id-alice")
	return string(secret), err
}

func TestCase(t *testing.T) {
	w := newWorld(t)
	id := w.ask(nil)
	w.must(w.approve(id, "secoff1", w.part(id, "secoff1")))
	w.must(w.approve(id, "secoff1", w.part(id, "secoff1"))) // counts once
	_, err := w.opens(id)
	w.refused(mail.Refused, err) // before the window
	w.now = w.now.Add(time.Hour)
	_, err = w.opens(id)
	w.refused(mail.Refused, err) // one officer, twice
	w.must(w.approve(id, "secoff3", "words before\r\n"+w.part(id, "secoff3")))
	w.refused(mail.Denied, w.Begin(id, "secoff1", Export))
	w.refused(mail.NotFound, w.Begin("nothing", "records", Export))
	if v, err := w.Get(id); err != nil || len(v.Openings) != 0 || v.State != Open || !slices.Equal(v.Approved, []string{"secoff1", "secoff3"}) || v.Threshold != 2 {
		t.Errorf("%+v %v", v, err)
	}
	if secret, err := w.opens(id); err != nil || secret != "key of id-alice" {
		t.Errorf("%q %v", secret, err)
	}
	_, err = w.Secret(id, "id-bob")
	w.refused(mail.Internal, err)
	if v, err := w.Get(id); err != nil || len(v.Openings) != 1 || v.Openings[0].What != Export || !v.Openings[0].At.Equal(w.now) {
		t.Errorf("%+v %v", v, err)
	}

	// What officers brought does not outlive the process, nor the time it may be held, nor the window.
	w.restart()
	_, err = w.opens(id)
	w.refused(mail.Refused, err)
	bring := func() {
		w.must(w.approve(id, "secoff1", w.part(id, "secoff1")))
		w.must(w.approve(id, "secoff2", w.part(id, "secoff2")))
	}
	bring()
	held := w.brought[id]["secoff1"]
	w.now = w.now.Add(8 * time.Hour)
	w.Wipe()
	if len(held.shares) != 0 {
		t.Error("what was brought is in memory after its time")
	}
	_, err = w.opens(id)
	w.refused(mail.Refused, err)
	bring()
	w.now = w.now.Add(-time.Minute) // the clock is set back
	_, err = w.opens(id)
	w.refused(mail.Refused, err)
	w.now = w.now.Add(time.Minute)
	bring()
	w.now = w.now.Add(16 * time.Hour)
	_, err = w.opens(id)
	w.refused(mail.Refused, err)
	w.refused(mail.Refused, w.approve(id, "secoff1", "x"))
	if v, err := w.Get(id); err != nil || v.State != Over || len(v.Approved) != 0 {
		t.Errorf("%+v %v", v, err)
	}
}

func TestStrangers(t *testing.T) {
	w := newWorld(t)
	id := w.ask(func(r *Request) { r.Requester = "secoff2" })
	other := w.ask(func(r *Request) { r.Account, r.AccountID = "bob", "id-bob" })
	mine := w.part(id, "secoff1")
	w.refused(mail.Denied, w.approve(id, "secoff2", w.part(id, "secoff2"))) // who asked
	w.refused(mail.Denied, w.approve(id, "secoff3", mine))                  // another's
	w.refused(mail.Denied, w.approve(id, "auditor", mine))                  // no officer
	w.refused(mail.Invalid, w.approve(id, "secoff1", ""))                   // nothing
	w.refused(mail.Invalid, w.approve(id, "secoff1", "no share"))           // words
	w.refused(mail.Invalid, w.approve(other, "secoff1", mine))              // of another account
	w.refused(mail.Invalid, w.approve(id, "secoff1", strings.Repeat("x", maxLine+1)))
	w.refused(mail.NotFound, w.approve("nothing", "secoff1", mine))
	_, err := w.Part(id, "auditor", nil, io.Discard)
	w.refused(mail.Denied, err)
	at := strings.Index(mine, "cmmpd-share-1:") + 60
	spoilt := mine[:at] + map[bool]string{true: "B", false: "A"}[mine[at] == 'A'] + mine[at+1:]
	w.refused(mail.Invalid, w.approve(id, "secoff1", spoilt))
	w.keep(group(t, "secoff1", "secoff4"), "id-alice") // the group has changed
	w.refused(mail.Invalid, w.approve(id, "secoff1", mine))
	w.must(w.approve(id, "secoff1", w.part(id, "secoff1")))
	if v, err := w.Get(id); err != nil || !slices.Equal(v.Approved, []string{"secoff1"}) {
		t.Errorf("%+v %v", v, err)
	}
	w.must(w.End(id, "refused by secoff4"))
	w.refused(mail.Refused, w.approve(id, "secoff1", w.part(other, "secoff1")))
	w.refused(mail.Refused, w.End(id, "closed by records"))
	if v, err := w.Get(id); err != nil || v.State != "refused by secoff4" || len(v.Approved) != 0 || len(w.brought) != 0 {
		t.Errorf("%+v %v", v, err)
	}
}

func TestAsk(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*Request){
		"no case":          func(r *Request) { r.Case = " " },
		"lines":            func(r *Request) { r.Reason = "a\nb" },
		"no reason":        func(r *Request) { r.Reason = "" },
		"backwards":        func(r *Request) { r.To = r.From },
		"over":             func(r *Request) { r.From, r.To = w.now.Add(-2*time.Hour), w.now },
		"a year":           func(r *Request) { r.To = r.From.AddDate(1, 0, 0) },
		"silence before":   func(r *Request) { r.NoNoticeUntil = w.now },
		"silence for ever": func(r *Request) { r.NoNoticeUntil = w.now.AddDate(6, 0, 0) },
		"silence of all":   func(r *Request) { r.Account, r.AccountID, r.NoNoticeUntil = "", "", w.now.AddDate(0, 1, 0) },
	} {
		r := Request{Case: "c", Reason: "r", AccountID: "id-alice", From: w.now, To: w.now.Add(time.Hour)}
		spoil(&r)
		if _, err := w.Ask(r); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.Ask(Request{Case: "c", Reason: "r", AccountID: "id-new", From: w.now, To: w.now.Add(time.Hour)})
	w.refused(mail.NotFound, err)
	if len(w.List()) != 0 {
		t.Errorf("%+v", w.List())
	}
	// Without a certificate nothing can be exported.
	id := w.ask(func(r *Request) { r.Certificate, r.From = nil, w.now })
	w.must(w.approve(id, "secoff1", w.part(id, "secoff1")))
	w.must(w.approve(id, "secoff2", w.part(id, "secoff2")))
	w.refused(mail.Refused, w.Begin(id, "records", Export))
	w.must(w.Begin(id, "records", Recover))
	// What cannot be saved is not done.
	w.o.Seal = func([]byte) ([]byte, error) { return nil, fmt.Errorf("sealed") }
	w.Desk.o.Seal = w.o.Seal
	w.refused(mail.Unavailable, w.Begin(id, "records", Recover))
	if v, err := w.Get(id); err != nil || len(v.Openings) != 1 {
		t.Errorf("%+v %v", v, err)
	}
}

func TestAll(t *testing.T) {
	w := newWorld(t)
	id := w.ask(func(r *Request) { r.Account, r.AccountID, r.From = "", "", w.now })
	for _, uid := range []string{"secoff1", "secoff2"} {
		w.refused(mail.Refused, w.Begin(id, "records", Recover)) // no account can be opened, so no owner is to hear that theirs was
		lines := w.part(id, uid)
		// Each part, decoded, as an officer's program would leave it.
		var brought strings.Builder
		for line := range strings.Lines(lines) {
			account, _, _ := strings.Cut(line, " ")
			i := w.kept[mail.AccountID(account)].Group.Number(uid)
			text := string(w.kept[mail.AccountID(account)].Parts[i-1])
			fmt.Fprintf(&brought, "%s %s", account, text[strings.Index(text, "cmmpd-share-1:"):])
		}
		have, n, err := w.Approve(id, uid, strings.NewReader(brought.String()))
		if err != nil || n != 2 || have == 0 {
			t.Errorf("%s: %d %d %v", uid, have, n, err)
		}
	}
	w.refused(mail.Refused, w.Begin(id, "records", Export))
	w.must(w.Begin(id, "records", Recover))
	for account := range w.kept {
		if secret, err := w.Secret(id, account); err != nil || string(secret) != "key of "+string(account) {
			t.Errorf("%q %v", secret, err)
		}
	}
	_, err := w.Secret(id, "id-new")
	w.refused(mail.NotFound, err)
}

func TestNotices(t *testing.T) {
	w := newWorld(t)
	quiet := w.now.AddDate(0, 2, 0)
	open := func(adjust func(*Request)) string {
		id := w.ask(adjust)
		w.must(w.approve(id, "secoff1", w.part(id, "secoff1")))
		w.must(w.approve(id, "secoff2", w.part(id, "secoff2")))
		w.must(w.Begin(id, "records", Export))
		return id
	}
	now := open(func(r *Request) { r.From = w.now })
	w.must(w.Begin(now, "records", Recover))
	later := open(func(r *Request) { r.From, r.NoNoticeUntil = w.now, quiet })
	w.restart()
	due := w.Due()
	if len(due) != 2 || due[0].ID != now || due[1].ID != now || due[0].Index != 0 || due[1].Index != 1 {
		t.Fatalf("%+v", due)
	}
	w.must(w.Told(due[0]))
	w.must(w.End(now, "closed by records"))
	w.restart()
	if due := w.Due(); len(due) != 1 || due[0].ID != now || due[0].Index != 1 {
		t.Fatalf("%+v", due)
	}
	w.must(w.Told(w.Due()[0]))
	w.now = quiet.Add(-time.Second)
	if due := w.Due(); len(due) != 0 {
		t.Errorf("told before the date: %+v", due)
	}
	w.now = quiet
	if due := w.Due(); len(due) != 1 || due[0].ID != later {
		t.Fatalf("%+v", due)
	}
	// Old requests go when somebody asks anew, but none of which the owner was not told.
	w.now = quiet.AddDate(3, 0, 0)
	w.ask(nil)
	if list := w.List(); len(list) != 2 || list[0].ID != later {
		t.Errorf("%+v", list)
	}
}

func TestFile(t *testing.T) {
	w := newWorld(t)
	w.ask(nil)
	whole, err := os.ReadFile(w.o.Path)
	w.must(err)
	for want, text := range map[mail.Kind]string{
		mail.Corrupt: "sealed {", mail.Unsupported: `sealed {"version":2}`,
	} {
		w.must(os.WriteFile(w.o.Path, []byte(text), 0o600))
		_, err := New(w.o)
		w.refused(want, err)
	}
	w.must(os.WriteFile(w.o.Path, whole, 0o600))
	w.restart()
	if len(w.List()) != 1 {
		t.Errorf("%+v", w.List())
	}
}

func FuzzParse(f *testing.F) {
	b, err := json.Marshal(file{fileVersion, []*Request{{ID: "a", Openings: []Opening{{What: Export}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"requests":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parse(b)
		if err != nil {
			return
		}
		for _, r := range list {
			if r.ID == "" || r.state(time.Time{}) == "" {
				t.Errorf("%+v", r)
			}
		}
	})
}

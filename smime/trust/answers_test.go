package trust

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
)

// TestAnswers asks a verifier that remembers and one that was just made the same things, while the clock jumps and lists are
// replaced: they must always say the same.
func TestAnswers(t *testing.T) {
	remembered := 0
	for seed := range uint64(12) {
		remembered += answersOf(t, seed)
	}
	if remembered == 0 {
		t.Error("nothing was ever remembered")
	}
}

func answersOf(t *testing.T, seed uint64) (remembered int) {
	w := newWorld(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	w.options.LastKnownGood = time.Duration(rnd.IntN(2)) * 20 * time.Second
	w.options.MaxCRLAge = time.Duration(rnd.IntN(2)) * 40 * time.Second
	w.options.RequireCRL = rnd.IntN(4) > 0
	edges := []time.Time{w.now}
	written := time.Now().Add(-time.Hour)
	list := func(ca *demopki.CA, name string) {
		at := w.now
		if rnd.IntN(8) == 0 { // dated in the future
			w.now = w.now.Add(clockSkew + 4*time.Second)
		}
		holds := []time.Duration{10 * time.Second, time.Hour, time.Hour}[rnd.IntN(3)]
		w.publish(ca, name, holds)
		edges = append(edges, w.now.Add(-clockSkew), w.now.Add(holds), w.now.Add(holds+w.options.LastKnownGood), w.now.Add(w.options.MaxCRLAge))
		w.now, written = at, written.Add(time.Second)
		if err := os.Chtimes(filepath.Join(w.dir, name), written, written); err != nil { // two in one tick of the clock would look the same
			t.Fatal(err)
		}
	}
	list(w.root, "root.crl")
	list(w.sub, "sub.crl")
	bobs, carols := w.now.Add(15*time.Second), w.now.Add(8*time.Second)
	edges = append(edges, bobs, carols)
	people := []*x509.Certificate{
		w.issue(demopki.Spec{CN: "Alice", Address: alice.String()}),
		w.issue(demopki.Spec{CN: "Bob", Address: alice.String(), NotBefore: w.now.Add(-time.Hour), NotAfter: bobs}),
		w.issue(demopki.Spec{CN: "Carol", NotBefore: carols, NotAfter: w.now.Add(time.Hour)}),
	}
	v := w.verifier()
	ask := func(c *x509.Certificate, q Query) {
		v.lists.refresh()
		if _, ok := v.answers.get((&check{c: c, q: q}).question(nil), w.now); ok {
			remembered++
		}
		got, want := v.Ask(c, q), w.verifier().Ask(c, q)
		if got.Usable != want.Usable || got.Failure != want.Failure || fmt.Sprint(got.Steps) != fmt.Sprint(want.Steps) ||
			!slices.EqualFunc(got.Evidence, want.Evidence, func(a, b Evidence) bool { return a.Made.Equal(b.Made) && a.Source == b.Source }) {
			t.Fatalf("seed %d, %s: said\n%+v\ninstead of\n%+v", seed, w.now, got.Steps, want.Steps)
		}
	}
	for range 25 {
		switch rnd.IntN(6) {
		case 0:
			w.now = w.now.Add(time.Duration(rnd.IntN(12)-3) * time.Second)
		case 1:
			list(w.root, "root.crl")
		case 2:
			list(w.sub, "sub.crl")
		case 3:
			if rnd.IntN(10) == 0 {
				w.sub.Revoke(people[rnd.IntN(len(people))])
			}
		default: // over an edge
			at := edges[rnd.IntN(len(edges))]
			c, q := people[rnd.IntN(len(people))], Query{Binding: Binding{Address: alice, Directory: true}}
			for _, d := range []time.Duration{-2, -2, -1, 0, 1} {
				w.now = at.Add(d * time.Second / 2)
				ask(c, q)
			}
		}
		q := Query{Purpose: Purpose(rnd.IntN(2)), Binding: Binding{Address: alice, Directory: rnd.IntN(3) > 0}, Soft: rnd.IntN(6) == 0}
		if rnd.IntN(8) == 0 {
			q.Binding = Binding{Address: mail.MustParseAddress("bob@works.gov.example"), Aliases: []mail.Address{alice}[:rnd.IntN(2)]}
		}
		ask(people[rnd.IntN(len(people))], q)
	}
	return remembered
}

// predated is how long before its making a list of demopki is dated.
const predated = time.Minute

// TestAnswerOfAge: what is remembered ends with the age that a list may have, counted from the day it was made, however long it says that it holds.
func TestAnswerOfAge(t *testing.T) {
	w := newWorld(t)
	w.options.MaxCRLAge = 2 * time.Hour
	v, c := w.verifier(), w.issue(demopki.Spec{Address: alice.String()})
	start := w.now.Add(-predated)
	for _, step := range []struct {
		after time.Duration
		want  Failure
	}{{2*time.Hour - 3*time.Second, None}, {2 * time.Hour, None}, {2*time.Hour + time.Second, Stale}} {
		w.now = start.Add(step.after)
		w.expect(v, c, Encrypt, Binding{Address: alice}, step.want)
	}
}

// TestAnswerAndFutureList: of two lists the one of the future counts from the moment on from which it is believed, also for an answer that was given just before.
func TestAnswerAndFutureList(t *testing.T) {
	w := newWorld(t)
	start, c := w.now, w.issue(demopki.Spec{Address: alice.String()})
	w.now = start.Add(predated + clockSkew + 5*time.Second)
	w.publish(w.sub, "later.crl", 48*time.Hour)
	w.now = start
	v := w.verifier()
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{0, "sub.crl"}, {4 * time.Second, "sub.crl"}, {5 * time.Second, "later.crl"}, {6 * time.Second, "later.crl"}} {
		w.now = start.Add(step.after)
		r := v.Check(c, Encrypt, Binding{Address: alice})
		if !r.Usable || filepath.Base(r.Evidence[0].Source) != step.want {
			t.Errorf("after %v: %+v, want %s", step.after, r.Evidence, step.want)
		}
	}
}

// TestAge is the whole of the rule about how old a list or a response may be.
func TestAge(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	for name, c := range map[string]struct {
		max, last   time.Duration // MaxCRLAge, LastKnownGood
		made, next  time.Time
		good, known bool
	}{
		"in time":                            {0, 0, at(-time.Hour), at(time.Hour), true, false},
		"to the second":                      {0, 0, at(-time.Hour), now, true, false},
		"over":                               {0, 0, at(-time.Hour), at(-1), false, false},
		"over, last known good":              {0, time.Hour, at(-2 * time.Hour), at(-time.Hour), true, true},
		"long over":                          {0, time.Hour, at(-2 * time.Hour), at(-time.Hour - 1), false, false},
		"without an end":                     {0, 0, at(-time.Hour), time.Time{}, false, false},
		"without an end, of an age":          {time.Hour, 0, at(-time.Hour), time.Time{}, true, false},
		"too old, though it says it holds":   {time.Hour, 0, at(-time.Hour - 1), at(time.Hour), false, false},
		"too old, and last known good":       {time.Hour, 9 * time.Hour, at(-time.Hour - 1), at(-1), false, false},
		"of the future, within the skew":     {time.Hour, 0, at(clockSkew), at(time.Hour), true, false},
		"of the future, beyond":              {time.Hour, 0, at(clockSkew + 1), at(time.Hour), false, false},
		"of the future, without other rules": {0, 0, at(clockSkew + 1), at(time.Hour), false, false},
	} {
		o := Options{MaxCRLAge: c.max, LastKnownGood: c.last}
		if good, words := o.age("it", c.made, c.next, now); good != c.good || good && (words != "") != c.known {
			t.Errorf("%s: %v, %q", name, good, words)
		}
	}
}

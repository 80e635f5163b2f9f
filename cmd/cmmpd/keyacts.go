package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/keyd"
)

// keyActs brings what keyds did to keys, of which each keeps a journal, into the audit log, whether this daemon ran then or not. An entry can come twice
// after a crash, with the same number; none is missing.
type keyActs struct {
	path  string // of the file that says how much is in the log
	audit *audit.Log
	marks map[string]keys.Mark // by socket; nil: not read yet
}

const maxMarks = 64 << 10

func (k *keyActs) load() error {
	marks := make(map[string]keys.Mark)
	b, err := durable.ReadFile(durable.OS{}, k.path, maxMarks)
	if errors.Is(err, os.ErrNotExist) {
		b, err = []byte("{}"), nil
	}
	if err == nil {
		err = json.Unmarshal(b, &marks)
	}
	if err != nil {
		return fmt.Errorf("%s (if it is removed, all is recorded once more): %w", k.path, err)
	}
	k.marks = marks
	return nil
}

func (k *keyActs) save() error {
	b, err := json.Marshal(k.marks)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS{}, k.path, b, 0o600)
}

// journal is what a keyd says: keyd.Client.Acts.
type journal func(ctx context.Context, from keys.Mark) ([]keys.Act, keys.Mark, error)

// bring records what is new of one keyd. That its journal does not go on from what is on record is an event, too; then it is read from its beginning.
func (k *keyActs) bring(ctx context.Context, socket string, read journal) error {
	if k.marks == nil {
		if err := k.load(); err != nil {
			return err
		}
	}
	for {
		mark := k.marks[socket]
		acts, next, err := read(ctx, mark)
		switch {
		case errors.Is(err, keys.ErrJournal) && mark != keys.Mark{}:
			e := audit.Event{
				Type: audit.KeyAct, Subject: socket, Outcome: "corrupt: the journal does not continue what is on record",
				Detail: map[string]string{"op": "journal", "entry": strconv.FormatUint(mark.Seq, 10), "hash": mark.Hash},
			}
			if err := k.audit.Record(ctx, e); err != nil {
				return err
			}
			next = keys.Mark{}
		case err != nil:
			return fmt.Errorf("the journal of keyd at %s: %w", socket, err)
		case len(acts) == 0:
			return nil
		}
		for _, a := range acts {
			if err := k.audit.Record(ctx, actEvent(&a)); err != nil {
				return err
			}
		}
		k.marks[socket] = next
		if err := k.save(); err != nil {
			return err
		}
	}
}

// actEvent is an entry of keyd's journal as an event.
func actEvent(a *keys.Act) audit.Event {
	e := audit.Event{Type: audit.KeyAct, Actor: a.Who, Subject: string(a.Slot), Outcome: a.Outcome, Client: "keyd", Detail: map[string]string{
		"op": a.Op, "entry": strconv.FormatUint(a.Seq, 10), "at": a.Time.Format(time.RFC3339Nano),
	}}
	if a.Key != "" {
		e.Subject += "/" + a.Key
	}
	if a.Detail != "" {
		e.Detail["detail"] = a.Detail
	}
	if a.Of != 0 {
		e.Detail["of"] = strconv.FormatUint(a.Of, 10)
	}
	return e
}

// recordActs brings what is new of each keyd.
func (p *platform) recordActs(ctx context.Context, acts *keyActs) error {
	seen := make(map[string]bool)
	var failed error
	for _, slot := range []keys.Slot{keys.Service, keys.Mail} {
		c := p.cfg.Keystore.of(slot)
		s, ok := p.keystore.Of(slot).(*keyd.Store)
		if !ok || seen[c.Socket] {
			continue
		}
		seen[c.Socket] = true
		asked, cancel := context.WithTimeout(ctx, 10*statusTimeout)
		failed = errors.Join(failed, acts.bring(asked, c.Socket, s.Client().Acts))
		cancel()
	}
	return failed
}

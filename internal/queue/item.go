package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// Letter is what intake says of a message that leaves by one lane.
type Letter struct {
	ID           mail.ID // of the acceptance
	From         mail.Address
	To           []mail.Address
	Label        mail.Label
	Confidential bool   // reports say nothing of it but who wrote to whom, and when
	VerifiedTLS  bool   // leaves only over TLS to a server that has proved its name
	Body         []byte // looked at for what it demands of a server; not kept
}

// state is what became of a recipient.
type state string

const (
	waiting   state = "waiting"
	delivered state = "delivered"
	failed    state = "failed"   // the sender is to be told
	reported  state = "reported" // the sender was told
)

// item is a message on its way, as it is kept.
type item struct {
	Version      int         `json:"version"`
	ID           mail.ID     `json:"id"`
	From         string      `json:"from"`
	Accepted     int64       `json:"accepted"` // Unix milliseconds
	Label        mail.Label  `json:"label"`
	Confidential bool        `json:"confidential"`
	VerifiedTLS  bool        `json:"verified-tls"`
	UTF8         bool        `json:"utf8"`      // needs SMTPUTF8 (RFC 6531)
	EightBit     bool        `json:"eight-bit"` // needs 8BITMIME (RFC 6152)
	Attempts     int         `json:"attempts"`
	Warned       bool        `json:"warned"` // the sender was told of the delay
	To           []recipient `json:"to"`
}

// recipient is one of an item's, with what happened last.
type recipient struct {
	Address   string `json:"address"`
	State     state  `json:"state"`
	Status    string `json:"status"`              // RFC 3463; "" before the first attempt
	Text      string `json:"text"`                // the server's reply, or our own words
	Host      string `json:"host"`                // the server; "": the words are our own
	Last      int64  `json:"last"`                // when, Unix milliseconds
	Uncertain int    `json:"uncertain,omitempty"` // how often the whole message went out and nothing certain came back
}

// itemVersion is what is written. Version 1 knew of nothing uncertain.
const itemVersion = 2

// maxUncertain is how often a message may go out without a certain answer before it is given up: so at most one copy
// more than there should be.
const maxUncertain = 2

var errItem = mail.E(mail.Corrupt, "", errors.New("a queue item cannot be read"))

// encode is the one encoding of the item.
func (it *item) encode() ([]byte, error) { return json.Marshal(it) }

// decodeItem reads an item, one of version 1 too, which becomes one of this version. It refuses every encoding but that
// of encode, and one of a newer version with mail.Unsupported.
func decodeItem(b []byte) (*item, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, errItem
	}
	if v.Version < 1 || v.Version > itemVersion {
		return nil, mail.E(mail.Unsupported, "", fmt.Errorf("a queue item has version %d", v.Version))
	}
	it := &item{}
	if err := json.Unmarshal(b, it); err != nil {
		return nil, errItem
	}
	if same, err := it.encode(); err != nil || !bytes.Equal(same, b) || !it.valid() {
		return nil, errItem
	}
	it.Version = itemVersion
	return it, nil
}

func (it *item) valid() bool {
	if it.From != "" {
		if _, err := mail.ParseAddress(it.From); err != nil {
			return false
		}
	}
	for _, r := range it.To {
		if _, err := mail.ParseAddress(r.Address); err != nil {
			return false
		}
		switch r.State {
		case waiting, delivered, failed, reported:
		default:
			return false
		}
		if r.Uncertain < 0 || r.Uncertain > 0 && it.Version == 1 {
			return false
		}
	}
	return len(it.To) > 0 && it.Attempts >= 0
}

// Item makes the record of a letter. All its recipients go by the lane of the first.
func (q *Queue) Item(l Letter) (storage.QueueItem, error) {
	if len(l.To) == 0 {
		return storage.QueueItem{}, mail.E(mail.Invalid, "", errors.New("a letter without recipients"))
	}
	w, err := q.way(l.To[0].Domain)
	if err != nil {
		return storage.QueueItem{}, err
	}
	now := q.o.Now()
	it := &item{
		Version: itemVersion, ID: l.ID, From: l.From.String(), Accepted: now.UnixMilli(), Label: l.Label,
		Confidential: l.Confidential, VerifiedTLS: l.VerifiedTLS, EightBit: eightBit(l.Body),
		UTF8: eightBit([]byte(l.From.Local)) || eightBit(l.Body[:message.ParseHeader(l.Body, message.Limits{}).Len()]),
	}
	for _, a := range l.To {
		it.To = append(it.To, recipient{Address: a.String(), State: waiting})
		it.UTF8 = it.UTF8 || eightBit([]byte(a.Local))
	}
	data, err := it.encode()
	return storage.QueueItem{Data: data, Due: now, Lane: q.hash(w.lane)}, err
}

func eightBit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// in is the recipients in a state.
func (it *item) in(s state) []*recipient {
	var list []*recipient
	for i := range it.To {
		if it.To[i].State == s {
			list = append(list, &it.To[i])
		}
	}
	return list
}

// bare is the item without the words that servers said.
func (it *item) bare() *item {
	out := *it
	out.To = slices.Clone(it.To)
	for i := range out.To {
		out.To[i].Text, out.To[i].Host = "", ""
	}
	return &out
}

func (it *item) accepted() time.Time { return time.UnixMilli(it.Accepted) }

// domain is that of an address that was checked.
func (r *recipient) address() mail.Address {
	a, err := mail.ParseAddress(r.Address)
	if err != nil {
		return mail.Address{}
	}
	return a
}

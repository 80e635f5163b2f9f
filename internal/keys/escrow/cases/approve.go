package cases

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
)

// Part writes an officer's part of a request, encrypted to them: CMS for one account, for all accounts lines of an account's ID, a space and
// the CMS in base64. accounts is all that there are; those that the officer has no part of are left out. n counts.
func (d *Desk) Part(id, uid string, accounts func() []mail.AccountID, w io.Writer) (n int, err error) {
	d.mu.Lock()
	r, err := d.pending(id)
	d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if !r.All() {
		part, err := d.part(r.AccountID, uid)
		if err == nil {
			_, err = w.Write(part)
		}
		return 1, err
	}
	out := bufio.NewWriter(w)
	for _, account := range accounts() {
		part, err := d.part(account, uid)
		if k := mail.KindOf(err); err != nil && (k == mail.NotFound || k == mail.Denied || k == mail.Corrupt) {
			continue
		} else if err != nil {
			return n, err
		}
		if _, err := fmt.Fprintf(out, "%s %s\n", account, base64.StdEncoding.EncodeToString(part)); err != nil {
			return n, err
		}
		n++
	}
	return n, out.Flush()
}

// part is an officer's part of one account.
func (d *Desk) part(account mail.AccountID, uid string) ([]byte, error) {
	e, err := d.o.Envelope(account)
	if err != nil {
		return nil, err
	}
	i := e.Group.Number(uid)
	if i == 0 {
		return nil, mail.E(mail.Denied, uid+" is none of the officers who keep this key", nil)
	}
	return e.Parts[i-1], nil
}

const maxLine = 4 << 10

// Approve takes what an officer brings: for one account the text that their part decrypts to, for all accounts lines of an account's ID, a space
// and the share. Each share is proved before it counts, and must be the officer's own; what an officer brings again takes the place of what they
// brought before. have is how many officers have brought something by now, n how many shares were good.
func (d *Desk) Approve(id, uid string, text io.Reader) (have, n int, err error) {
	d.mu.Lock()
	r, err := d.pending(id)
	d.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	if uid == r.Requester {
		return 0, 0, mail.E(mail.Denied, "who asked may not approve", nil)
	}
	p := &parts{at: d.o.Now(), shares: make(map[[16]byte]shares.Share), needs: make(map[[16]byte]int)}
	if err = d.read(r, uid, text, p); err == nil && len(p.shares) == 0 {
		err = mail.E(mail.Invalid, "there is no share in what was brought", nil)
	}
	if err != nil {
		p.wipe()
		return 0, 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.pending(id); err != nil { // it may have ended meanwhile
		p.wipe()
		return 0, 0, err
	}
	by := d.brought[id]
	if by == nil {
		by = make(map[string]*parts)
		d.brought[id] = by
	}
	if before := by[uid]; before != nil {
		before.wipe()
	}
	by[uid] = p
	return len(by), len(p.shares), nil
}

func (d *Desk) read(r *Request, uid string, text io.Reader, p *parts) error {
	in := bufio.NewScanner(io.LimitReader(text, 64<<20))
	in.Buffer(make([]byte, maxLine), maxLine)
	defer func() { clear(in.Bytes()) }()
	for in.Scan() {
		account, line := r.AccountID, strings.TrimSpace(in.Text())
		if r.All() {
			name, rest, _ := strings.Cut(line, " ")
			account, line = mail.AccountID(name), rest
		}
		if !strings.HasPrefix(line, shares.Mark) {
			continue // words around it
		}
		share, err := shares.ParseShare(line)
		if err != nil {
			return err
		}
		need, err := d.prove(account, uid, share)
		if err != nil {
			share.Wipe()
			return err
		}
		p.shares[share.Of()], p.needs[share.Of()] = share, need
	}
	if in.Err() != nil {
		return mail.E(mail.Invalid, "what was brought cannot be read", in.Err())
	}
	return nil
}

// prove says whether a share is the officer's, of this account, as it is kept now, and how many are needed.
func (d *Desk) prove(account mail.AccountID, uid string, share shares.Share) (need int, err error) {
	e, err := d.o.Envelope(account)
	if err != nil {
		return 0, err
	}
	if err := e.Check(share); err != nil {
		return 0, err
	}
	if e.Group.Number(uid) != share.Number {
		return 0, mail.E(mail.Denied, "this share is not that of "+uid, nil)
	}
	return e.Threshold(), nil
}

// Begin puts on record that somebody is about to open what a request is for, when they may: within the window, with enough officers. It must be
// called before Secret.
func (d *Desk) Begin(id, uid, what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.ready(id)
	if err != nil {
		return err
	}
	if uid != r.Requester {
		return mail.E(mail.Denied, "only "+r.Requester+", who asked, may open it", nil)
	}
	if what == Export && (r.All() || len(r.Certificate) == 0) {
		return mail.E(mail.Refused, "this request is not for an export: it has no certificate to encrypt to", nil)
	}
	if r.All() {
		err = d.some(r)
	} else {
		_, err = d.enough(r, r.AccountID)
	}
	if err != nil {
		return err
	}
	now := d.o.Now().UTC()
	due := now
	if r.NoNoticeUntil.After(due) {
		due = r.NoNoticeUntil
	}
	return d.change(id, func(r *Request) error {
		r.Openings = append(r.Openings, Opening{At: now, What: what, Due: due})
		return nil
	})
}

// ready is a request within its window. mu is held.
func (d *Desk) ready(id string) (*Request, error) {
	r, err := d.pending(id)
	if err == nil && r.state(d.o.Now()) != Open {
		err = mail.E(mail.Refused, "the window of the request begins at "+r.From.UTC().Format(time.RFC3339), nil)
	}
	return r, err
}

// enough is the shares of an account that were brought for a request, if they are enough. mu is held.
func (d *Desk) enough(r *Request, account mail.AccountID) ([]shares.Share, error) {
	e, err := d.o.Envelope(account)
	if err != nil {
		return nil, err
	}
	var list []shares.Share
	for _, uid := range slices.Sorted(maps.Keys(d.brought[r.ID])) {
		if s, ok := d.brought[r.ID][uid].shares[e.SetID()]; ok {
			list = append(list, s)
		}
	}
	if len(list) < e.Threshold() {
		return nil, mail.E(mail.Refused, fmt.Sprintf("%d of %d officers have brought their parts", len(list), e.Threshold()), nil)
	}
	return list, nil
}

// some is nil if enough shares were brought for a request to open one account at least. mu is held.
func (d *Desk) some(r *Request) error {
	counts := make(map[[16]byte]int)
	for _, p := range d.brought[r.ID] {
		for set, need := range p.needs {
			if counts[set]++; counts[set] >= need {
				return nil
			}
		}
	}
	return mail.E(mail.Refused, fmt.Sprintf("%d officers have brought their parts, which is not enough for any account", len(d.brought[r.ID])), nil)
}

// Secret is the private key of an account that a request is for. Clear it after use. The error is of kind mail.Refused if the window is not
// open, or too few officers have brought their parts of this account.
func (d *Desk) Secret(id string, account mail.AccountID) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.ready(id)
	if err != nil {
		return nil, err
	}
	if !r.All() && account != r.AccountID || len(r.Openings) == 0 {
		return nil, mail.E(mail.Internal, "", errors.New("not what was asked for"))
	}
	list, err := d.enough(r, account)
	if err != nil {
		return nil, err
	}
	e, err := d.o.Envelope(account)
	if err != nil {
		return nil, err
	}
	return e.Open(list)
}

// Notice is an opening of which the owner is to be told.
type Notice struct {
	Request
	Index int // of the opening
}

// Due is the openings of which the owners are to be told now.
func (d *Desk) Due() (list []Notice) {
	now := d.o.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.requests {
		for i, o := range r.Openings {
			if o.Told.IsZero() && !now.Before(o.Due) {
				list = append(list, Notice{*r, i})
			}
		}
	}
	return list
}

// Told notes that the owner was told.
func (d *Desk) Told(n Notice) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.change(n.ID, func(r *Request) error {
		if n.Index < len(r.Openings) {
			r.Openings[n.Index].Told = d.o.Now().UTC()
		}
		return nil
	})
}

package keyd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cmmpd/internal/keys"
	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
)

// Token is one slot's token. Its methods may be called concurrently; one that hangs ends keyd. Errors are of the kinds
// that keys.Keystore names, mail.Unavailable if the token cannot answer.
type Token interface {
	// Label is the token's name.
	Label() string
	// LogIn opens it with the PIN, of which it may keep a copy until LogOut. The error is of kind mail.AuthFailed if the PIN is refused,
	// mail.Unavailable if the token is not there now: then it is opened when it is next used.
	LogIn(pin []byte) error
	// Ping is nil if the token, logged in, can be used now.
	Ping() error
	// SetPIN changes the PIN. The error is of kind mail.AuthFailed if the old one is wrong.
	SetPIN(old, fresh []byte) error
	// LogOut closes it and wipes the PIN.
	LogOut() error
	List() ([]keys.Info, error)
	Public(name string) (keys.Info, error)
	Generate(name string, kind keys.Kind) error
	Retire(name string) error
	Unretire(name string) error
	Sign(name string, m Mechanism, digest []byte) ([]byte, error)
	Decrypt(name string, m Mechanism, encrypted []byte) ([]byte, error)
	Agree(name string, peer []byte) ([]byte, error)
	Wrap(name string, plain, aad []byte) ([]byte, error)
	Unwrap(name string, wrapped, aad []byte) ([]byte, error)
	// HMAC is HMAC-SHA-256 under a secret.
	HMAC(name string, data []byte) ([]byte, error)
}

// Mechanism says how a private key is used.
type Mechanism struct {
	Scheme    Scheme
	Hash, MGF uint8  // crypto.Hash
	Label     []byte // of OAEP
}

// Slot is a slot as keyd is configured.
type Slot struct {
	Token Token
	PIN   []byte // nil: the slot is sealed until an operator brings it. Wiped when the token is open
	// Shares is the set of officers' shares that have the PIN; nil: there are none. It is read anew for each share.
	Shares func() (*shares.Set, error)
}

// Options are what a Server needs.
type Options struct {
	Slots     map[keys.Slot]Slot
	Clients   []uint32 // user IDs that may use keys
	Operators []uint32 // user IDs that may look after keys, and unseal
	Deadline  time.Duration
	// Hung is called when an operation has not come back within the deadline (generating: twelve times that). It ends the process.
	Hung func(what string)
	// Unwraps is how many account keys may be unwrapped in a second, with bursts of ten seconds' worth; 0: any.
	Unwraps int
	// Journal keeps what operators do; nil: nobody does.
	Journal *keys.Journal
	Log     *slog.Logger
	Now     func() time.Time
}

// Server is keyd.
type Server struct {
	o Options

	mu    sync.Mutex // guards what follows
	slots map[keys.Slot]*slotState
	conns map[net.Conn]bool
	ended bool
	open  sync.WaitGroup // connections

	unwraps *keys.Rate
}

// slotState is a slot as it is.
type slotState struct {
	token Token

	mu      sync.Mutex // held while the token is opened or closed; guards what follows
	open    bool
	refused error // why the PIN that keyd began with was

	shares  func() (*shares.Set, error)
	brought []shares.Share // in no more than shareWindow
	first   time.Time      // when the first of them was
}

// NewServer opens the slots that have a PIN. A token that cannot be opened is no error: the slot's state says why. It is not tried again with the
// same PIN, for tokens lock themselves after a few wrong ones.
func NewServer(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, slots: make(map[keys.Slot]*slotState), conns: make(map[net.Conn]bool)}
	s.unwraps = keys.NewRate(o.Unwraps, o.Now())
	for name, slot := range o.Slots {
		st := &slotState{token: slot.Token, shares: slot.Shares}
		s.slots[name] = st
		if slot.PIN == nil {
			o.Log.Warn("slot is sealed", "slot", string(name), "token", slot.Token.Label())
			continue
		}
		err := s.journaled(keys.Act{Op: opUnseal.String(), Slot: name, Who: "keyd, with the PIN of its configuration"}, func() error {
			return s.guard("log in", o.Deadline, func() error { return st.logIn(slot.PIN) })
		})
		clear(slot.PIN)
		if err != nil {
			st.mu.Lock()
			if !st.open {
				st.refused = err
			}
			st.mu.Unlock()
			o.Log.Error("slot cannot be opened now", "slot", string(name), "token", slot.Token.Label(), "err", err)
			continue
		}
		o.Log.Info("slot is open", "slot", string(name), "token", slot.Token.Label())
	}
	return s
}

func (st *slotState) logIn(pin []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.open {
		return mail.E(mail.Exists, "", errors.New("the slot is open already"))
	}
	err := st.token.LogIn(pin)
	if err == nil || mail.KindOf(err) == mail.Unavailable {
		st.open, st.refused = true, nil
	}
	return err
}

// shareWindow is how soon after the first the last of the shares must be there.
const shareWindow = 15 * time.Minute

// set is the set of shares that are good now.
func (st *slotState) set() (*shares.Set, error) {
	if st.shares == nil {
		return nil, mail.E(mail.NotFound, "", errors.New("the PIN of this slot is not parted among officers"))
	}
	return st.shares()
}

// setPIN changes the PIN. Without the old one, officers must have brought their shares of it.
func (st *slotState) setPIN(old, fresh []byte, now time.Time) error {
	if len(old) == 0 {
		set, err := st.set()
		if err != nil {
			return err
		}
		st.mu.Lock()
		all := st.brought
		if d := now.Sub(st.first); d < 0 || d > shareWindow {
			all = nil
		}
		st.brought = nil
		st.mu.Unlock()
		if old, err = set.Combine(all); err != nil {
			return err
		}
		defer clear(old)
	}
	return st.token.SetPIN(old, fresh)
}

// share takes an officer's share, and opens the token when there are enough. When it is open they are kept for setPIN.
func (st *slotState) share(text string, now time.Time) ([]byte, error) {
	set, err := st.set()
	if err != nil {
		return nil, err
	}
	share, err := shares.ParseShare(text)
	if err == nil {
		err = set.Check(share)
	}
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	if d := now.Sub(st.first); d < 0 || d > shareWindow {
		st.brought = nil
	}
	// A set that was made since makes the shares of the old one useless.
	st.brought = slices.DeleteFunc(st.brought, func(s shares.Share) bool { return s.Number == share.Number || set.Check(s) != nil })
	if len(st.brought) == 0 {
		st.first = now
	}
	st.brought = append(st.brought, share)
	all, open := slices.Clone(st.brought), st.open
	st.mu.Unlock()
	answer := []byte{byte(len(all)), byte(set.Threshold)}
	if open || len(all) < set.Threshold {
		return answer, nil
	}
	pin, err := set.Combine(all)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	err = st.logIn(pin)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.brought = nil // even if the token refused the PIN: it is not tried again with each further share
	return answer, err
}

func (st *slotState) logOut() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.open, st.refused = false, nil
	return st.token.LogOut()
}

// usable is nil if the token may be used, ErrSealed if it was not opened.
func (st *slotState) usable() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.open:
		return nil
	case st.refused != nil:
		return mail.E(mail.Unavailable, "", fmt.Errorf("the token %s cannot be used: %w", st.token.Label(), st.refused))
	}
	return keys.ErrSealed
}

func (st *slotState) status() SlotStatus {
	s := SlotStatus{State: Open, Token: st.token.Label()}
	err := st.usable()
	if err == nil {
		err = st.token.Ping()
	}
	switch {
	case errors.Is(err, keys.ErrSealed):
		s.State = Sealed
	case err != nil:
		s.State, s.Reason = Failed, err.Error()
	}
	return s
}

// guard does what the token may hang in.
func (s *Server) guard(what string, within time.Duration, do func() error) error {
	t := time.AfterFunc(within, func() { s.o.Hung(what) })
	defer t.Stop()
	return do()
}

// Serve answers whoever connects, until ln is closed.
func (s *Server) Serve(ln *net.UnixListener) error {
	for {
		conn, err := ln.AcceptUnix()
		if err != nil {
			return err
		}
		s.mu.Lock()
		if s.ended || len(s.conns) >= maxServed {
			s.mu.Unlock()
			_ = conn.Close() // turned away
			continue
		}
		s.conns[conn] = true
		s.open.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.open.Done()
			s.serve(conn)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, conn)
		}()
	}
}

// maxServed is how many connections keyd has at a time.
const maxServed = 256

// Close ends the connections and logs out of the tokens. The listener must be closed before.
func (s *Server) Close() error {
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		_ = c.Close() // its answer, if any, is not wanted any more
	}
	s.mu.Unlock()
	s.open.Wait()
	var err error
	for _, st := range s.slots {
		err = errors.Join(err, s.guard("log out", s.o.Deadline, st.logOut))
	}
	return err
}

// frameTimeout is how long a frame may take from its first octet to its last, and an answer to be taken.
const frameTimeout = 5 * time.Second

func (s *Server) serve(conn *net.UnixConn) {
	defer conn.Close()
	uid, err := peer(conn)
	if err != nil {
		s.o.Log.Error("who connects is unknown", "err", err)
		return
	}
	if !slices.Contains(s.o.Clients, uid) && !slices.Contains(s.o.Operators, uid) {
		s.o.Log.Warn("a user who has no business here was turned away", "uid", uid)
		return
	}
	var buf []byte
	defer func() { clear(buf[:cap(buf)]) }()
	for {
		if buf, err = readFrame(&patient{conn: conn}, buf); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.o.Log.Warn("connection ended", "uid", uid, "err", err)
			}
			return
		}
		r, err := decodeRequest(buf)
		var data []byte
		if err == nil {
			data, err = s.answer(uid, r)
		}
		frame, ferr := encodeAnswer(data, err)
		clear(data)
		clear(buf)
		if ferr != nil {
			s.o.Log.Error("an answer that is too long", "err", ferr)
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(frameTimeout)) // of a closed connection: then Write fails
		_, err = conn.Write(frame)
		clear(frame)
		if err != nil {
			return
		}
	}
}

// patient waits for the first octets of a frame for as long as they need, and for the rest frameTimeout.
type patient struct {
	conn  *net.UnixConn
	begun bool
}

func (p *patient) Read(b []byte) (int, error) {
	if !p.begun {
		if err := p.conn.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
	}
	n, err := p.conn.Read(b)
	if n > 0 && !p.begun {
		p.begun = true
		_ = p.conn.SetReadDeadline(time.Now().Add(frameTimeout)) // of a closed connection: then Read fails
	}
	return n, err
}

// peer is the user at the other end.
func peer(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}

// answer does what is asked.
func (s *Server) answer(uid uint32, r *request) ([]byte, error) {
	operator := slices.Contains(s.o.Operators, uid)
	if r.op.ofOperator() && !operator {
		s.o.Log.Warn("refused: only an operator may do this", "op", r.op.String(), "uid", uid)
		return nil, mail.E(mail.Denied, "", fmt.Errorf("%s: only an operator of keyd may do this, not uid %d", r.op, uid))
	}
	st := s.slots[r.slot]
	if r.op == opStatus {
		if st == nil {
			return encodeStatus(SlotStatus{})
		}
		var status SlotStatus
		_ = s.guard("status", s.o.Deadline, func() error { // it hangs or not
			status = st.status()
			return nil
		})
		return encodeStatus(status)
	}
	if r.op == opActs {
		return s.acts(r.data)
	}
	if st == nil {
		return nil, mail.E(mail.NotFound, "", fmt.Errorf("keyd has no slot %q", string(r.slot)))
	}
	within := s.o.Deadline
	if r.op == opGenerate {
		within *= 12
	}
	var data []byte
	do := func() error {
		return s.guard(r.op.String(), within, func() (err error) {
			data, err = s.act(st, r)
			return err
		})
	}
	if !r.op.ofOperator() {
		err := do()
		return data, err
	}
	a := keys.Act{Op: r.op.String(), Slot: r.slot, Key: r.name, Who: userName(uid)}
	switch r.op {
	case opGenerate:
		a.Detail = string(r.data[:min(len(r.data), 40)])
	case opShare:
		if share, err := shares.ParseShare(string(r.data)); err == nil {
			a.Detail = fmt.Sprintf("share %d", share.Number)
			share.Wipe()
		}
	}
	err := s.journaled(a, do)
	s.o.Log.Info("operator", "op", r.op.String(), "slot", string(r.slot), "key", r.name, "uid", uid, "err", err)
	return data, err
}

// userName is a user as the journal names them.
func userName(uid uint32) string {
	name := fmt.Sprintf("uid %d", uid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		name += " (" + u.Username + ")"
	}
	return name
}

// journaled does what is on record before and after. What hangs has no outcome there: keyd ends.
func (s *Server) journaled(a keys.Act, do func() error) error {
	if s.o.Journal == nil {
		return do()
	}
	a.Time = s.o.Now()
	a, err := s.o.Journal.Begin(a)
	if err != nil {
		return err
	}
	err = do()
	if jerr := s.o.Journal.End(a, s.o.Now(), err); jerr != nil {
		return errors.Join(jerr, err)
	}
	return err
}

// acts is some of the journal.
func (s *Server) acts(data []byte) ([]byte, error) {
	if s.o.Journal == nil || len(data) != 8 {
		return nil, mail.E(mail.Invalid, "", errors.New("keyd keeps no journal, or that is no place in it"))
	}
	return s.o.Journal.Since(binary.BigEndian.Uint64(data), maxFrame/2)
}

// act does what may hang.
func (s *Server) act(st *slotState, r *request) ([]byte, error) {
	switch r.op {
	case opUnseal:
		return nil, st.logIn(r.data)
	case opSeal:
		return nil, st.logOut()
	case opShare:
		return st.share(string(r.data), s.o.Now())
	}
	if err := st.usable(); err != nil {
		return nil, err
	}
	if r.op == opSetPIN {
		return nil, st.setPIN(r.data, r.extra, s.o.Now())
	}
	return s.use(st.token, r)
}

// use uses the token. Which keys may be used for what is part of the slots' meaning: only of the service slot is anything
// derived, only under the mail slot is anything wrapped.
func (s *Server) use(t Token, r *request) ([]byte, error) {
	m := Mechanism{Scheme: r.scheme, Hash: r.hash, MGF: r.mgf}
	switch r.op {
	case opList:
		list, err := t.List()
		if err != nil {
			return nil, err
		}
		return encodeInfos(list)
	case opPublic:
		k, err := t.Public(r.name)
		if err != nil {
			return nil, err
		}
		return encodeInfos([]keys.Info{k})
	case opSign:
		return t.Sign(r.name, m, r.data)
	case opDecrypt:
		if r.scheme == PKCS1 {
			return implicit(t, r.name, m, r.data, int(r.size))
		}
		m.Label = r.extra
		return t.Decrypt(r.name, m, r.data)
	case opAgree:
		return t.Agree(r.name, r.data)
	case opDerive:
		if r.slot != keys.Service {
			break
		}
		// HKDF-Expand (RFC 5869, section 2.3) to one block, the token's secret being the pseudorandom key.
		return t.HMAC(r.name, append(slices.Clone(r.data), 1))
	case opWrap:
		if r.slot != keys.Mail {
			break
		}
		return t.Wrap(r.name, r.data, r.extra)
	case opUnwrap:
		if r.slot != keys.Mail {
			break
		}
		if !s.unwraps.Take(s.o.Now()) {
			return nil, keys.ErrTooMany
		}
		return t.Unwrap(r.name, r.data, r.extra)
	case opGenerate:
		if err := keys.CheckName(r.slot, r.name); err != nil {
			return nil, err
		}
		return nil, t.Generate(r.name, keys.Kind(r.data))
	case opRetire:
		if err := keys.CheckName(r.slot, r.name); err != nil {
			return nil, err
		}
		return nil, t.Retire(r.name)
	case opUnretire:
		if _, err := keys.FormerName(r.slot, r.name); err != nil {
			return nil, err
		}
		return nil, t.Unretire(r.name)
	}
	return nil, mail.E(mail.Invalid, "", fmt.Errorf("%s is not for the slot %s", r.op, r.slot))
}

// implicit decrypts RSAES-PKCS1-v1_5 with implicit rejection: bad padding, or a key of another size, is answered by random octets.
func implicit(t Token, name string, m Mechanism, encrypted []byte, size int) ([]byte, error) {
	instead := make([]byte, size)
	if _, err := rand.Read(instead); err != nil {
		return nil, err
	}
	key, err := t.Decrypt(name, m, encrypted)
	if mail.KindOf(err) != mail.Corrupt && err != nil {
		return nil, err
	}
	if err != nil || len(key) != size {
		clear(key)
		return instead, nil
	}
	return key, nil
}

// Listen listens at path, which only its own user and, if group is not negative, that group may connect to. A socket that nobody
// listens at any more is replaced.
func Listen(ctx context.Context, path string, group int) (*net.UnixListener, error) {
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close() // it only showed that somebody is there
		return nil, mail.E(mail.Busy, "", fmt.Errorf("somebody listens at %s", path))
	}
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove %s: %w", path, err)
	}
	old := unix.Umask(0o177)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if group >= 0 {
		if err = unix.Chown(path, -1, group); err == nil {
			err = unix.Chmod(path, 0o660)
		}
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

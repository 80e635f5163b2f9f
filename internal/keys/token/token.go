//go:build cgo

package token

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"cmmpd/internal/keys/keyd"
	"cmmpd/internal/mail"
)

// Library is a PKCS #11 library that is loaded: once in a process, however many of its tokens are used.
type Library struct {
	ctx  *pkcs11.Ctx
	path string
}

// Load loads the library at path.
func Load(path string) (*Library, error) {
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, mail.E(mail.NotFound, "", fmt.Errorf("%s cannot be loaded as a PKCS #11 library", path))
	}
	if err := ctx.Initialize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		ctx.Destroy()
		return nil, mail.E(mail.Unavailable, "", fmt.Errorf("%s: C_Initialize: %w", path, err))
	}
	return &Library{ctx, path}, nil
}

// Close unloads it. No token of it may be in use.
func (l *Library) Close() error {
	err := l.ctx.Finalize()
	l.ctx.Destroy()
	return err
}

// Token is a token of the library, which need not be there yet.
func (l *Library) Token(o Options) keyd.Token {
	if o.Sessions == 0 {
		o.Sessions = 8
	}
	return &token{ctx: l.ctx, o: o, sem: make(chan struct{}, o.Sessions)}
}

// token is one token and its log-in.
type token struct {
	ctx *pkcs11.Ctx
	o   Options
	sem chan struct{} // one for each session in use

	// work is held shared by every operation, and exclusively to log in and out: libraries crash when sessions are closed that are
	// in use (SoftHSM 2.6 does). Taken before mu.
	work sync.RWMutex

	mu       sync.Mutex // guards what follows
	pin      []byte     // nil: logged out
	refused  error      // the PIN was: it is not tried again
	slot     uint
	loggedIn bool
	idle     []*session
}

// session is a session of the token, and the objects that were found in it.
type session struct {
	handle  pkcs11.SessionHandle
	objects map[objectKey]object
}

type objectKey struct {
	class uint
	name  string
}

type object struct {
	handle  pkcs11.ObjectHandle
	keyType uint
}

var _ keyd.Token = (*token)(nil)

func is(err error, codes ...uint) bool {
	var e pkcs11.Error
	return errors.As(err, &e) && slices.Contains(codes, uint(e))
}

// Label is the token's label, as configured.
func (t *token) Label() string { return t.o.Token }

// LogIn satisfies keyd.Token.
func (t *token) LogIn(pin []byte) error {
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	t.pin, t.refused = slices.Clone(pin), nil
	err := t.connect()
	if mail.KindOf(err) == mail.AuthFailed && err != nil {
		t.forget()
	}
	return err
}

// SetPIN satisfies keyd.Token.
func (t *token) SetPIN(old, fresh []byte) error {
	err := t.do("C_SetPIN", func(s *session) error { return t.ctx.SetPIN(s.handle, string(old), string(fresh)) })
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pin != nil {
		clear(t.pin)
		t.pin = slices.Clone(fresh)
	}
	return nil
}

// LogOut satisfies keyd.Token.
func (t *token) LogOut() error {
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.loggedIn {
		err = t.ctx.CloseAllSessions(t.slot) // which logs out (section 5.6)
	}
	t.forget()
	return t.failure("C_CloseAllSessions", err)
}

// forget drops the log-in and the PIN. mu is held.
func (t *token) forget() {
	clear(t.pin)
	t.pin, t.loggedIn, t.idle = nil, false, nil
}

// connect finds the token and logs in. work is held exclusively, and mu.
func (t *token) connect() error {
	switch {
	case t.pin == nil:
		return mail.E(mail.Unavailable, "", errors.New("logged out"))
	case t.refused != nil:
		return t.refused
	}
	slot, err := t.find()
	if err != nil {
		return err
	}
	// What is left of an earlier log-in, such as that of a token that was taken out, is in the way.
	if err := t.ctx.CloseAllSessions(slot); err != nil && !is(err, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_TOKEN_NOT_PRESENT) {
		return t.failure("C_CloseAllSessions", err)
	}
	t.slot, t.idle = slot, nil
	s, err := t.session()
	if err != nil {
		return err
	}
	if err := t.ctx.Login(s.handle, pkcs11.CKU_USER, string(t.pin)); err != nil && !is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		err = t.failure("C_Login", err)
		if mail.KindOf(err) == mail.AuthFailed {
			t.refused = err // a token locks itself after a few wrong ones
		}
		return errors.Join(err, t.ctx.CloseSession(s.handle))
	}
	t.loggedIn = true
	t.idle = append(t.idle, s)
	return nil
}

// find looks for the token by its label.
func (t *token) find() (uint, error) {
	slots, err := t.ctx.GetSlotList(true)
	if err != nil {
		return 0, t.failure("C_GetSlotList", err)
	}
	var found []uint
	for _, slot := range slots {
		info, err := t.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // taken out since
		}
		if strings.TrimRight(info.Label, " \x00") == t.o.Token && (t.o.Serial == "" || strings.TrimRight(info.SerialNumber, " \x00") == t.o.Serial) {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, mail.E(mail.Unavailable, "", fmt.Errorf("no token %q is there", t.o.Token))
	}
	return 0, mail.E(mail.Unavailable, "", fmt.Errorf("%d tokens are called %q: configure the serial number", len(found), t.o.Token))
}

// session opens a session. mu is held.
func (t *token) session() (*session, error) {
	h, err := t.ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, t.failure("C_OpenSession", err)
	}
	return &session{h, make(map[objectKey]object)}, nil
}

// take is a session of its own for one operation; give follows. work is held shared from the one to the other.
func (t *token) take() (*session, error) {
	t.sem <- struct{}{}
	for {
		t.work.RLock()
		s, err := t.ready()
		if s != nil {
			return s, nil
		}
		t.work.RUnlock()
		if err == nil {
			err = t.reconnect()
		}
		if err != nil {
			<-t.sem
			return nil, err
		}
	}
}

// ready is a session of the log-in; nil if there is no log-in.
func (t *token) ready() (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loggedIn {
		return nil, nil
	}
	if n := len(t.idle); n > 0 {
		s := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return s, nil
	}
	s, err := t.session()
	if is(err, lost...) {
		t.loggedIn = false
		return nil, nil
	}
	return s, err
}

// reconnect logs in again, unless somebody else just did.
func (t *token) reconnect() error {
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loggedIn {
		return nil
	}
	return t.connect()
}

// give gives a session back. One that is not good any more ends the whole log-in, which the next operation makes anew.
func (t *token) give(s *session, good bool) {
	defer func() { <-t.sem }()
	defer t.work.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if good {
		t.idle = append(t.idle, s)
	} else {
		t.loggedIn = false
	}
}

// lost are the codes that say that session or log-in are no more.
var lost = []uint{
	pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_ERROR,
	pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID,
	pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
}

// do does something in a session. If the session or its log-in was lost, it is done once more in a new one.
func (t *token) do(what string, f func(s *session) error) error {
	for attempt := 0; ; attempt++ {
		s, err := t.take()
		if err != nil {
			return err
		}
		err = f(s)
		gone := is(err, lost...) && mail.KindOf(err) == mail.Internal // of another kind: the caller knows better
		t.give(s, !gone)
		if err == nil {
			return nil
		}
		if !gone || attempt > 0 {
			return t.failure(what, err)
		}
	}
}

// failure gives a library's error its kind.
func (t *token) failure(what string, err error) error {
	var own *mail.Error
	var code pkcs11.Error
	if err == nil || errors.As(err, &own) || !errors.As(err, &code) {
		return err
	}
	kind := mail.Internal
	switch uint(code) {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED:
		kind = mail.AuthFailed
	case pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE:
		kind = mail.Corrupt
	case pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_CURVE_NOT_SUPPORTED:
		kind = mail.Unsupported
	case pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE:
		kind = mail.Invalid
	case pkcs11.CKR_SESSION_COUNT, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_DEVICE_MEMORY:
		kind = mail.Busy
	default:
		if slices.Contains(lost, uint(code)) {
			kind = mail.Unavailable
		}
	}
	return mail.E(kind, "", fmt.Errorf("token %s: %s: %w", t.o.Token, what, err))
}

// Ping satisfies keyd.Token.
func (t *token) Ping() error {
	return t.do("C_GetSessionInfo", func(s *session) error {
		_, err := t.ctx.GetSessionInfo(s.handle)
		return err
	})
}

package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

var errGone = mail.E(mail.NotFound, "the message is no longer there", nil)

// openedEntry is a message whose key is known.
type openedEntry struct {
	key    *messageKey
	prefix []byte
	body   bodyRecord
}

// entry unwraps the key of a message.
func (m *Mailbox) entry(uid uint32) (*openedEntry, error) {
	m.noteRead()
	x := m.m
	s := x.store
	x.mu.RLock()
	i, ok := x.find(uid)
	var id uint64
	if ok {
		id = x.msgs[i].body
	}
	x.mu.RUnlock()
	if !ok {
		return nil, errGone
	}
	v, err := s.kv.Get(keyOf(keySecret, x.key.account, x.key.mailbox, uid))
	if err != nil {
		return nil, err
	}
	where, err := s.kv.Get(keyOf64(keyBody, id))
	if err != nil {
		return nil, err
	}
	if v == nil || where == nil {
		return nil, errGone // expunged just now
	}
	secret, err := decodeSecret(v)
	if err != nil {
		return nil, err
	}
	return x.account.openEntry(secret, id, where)
}

func (a *account) openEntry(secret secretRecord, body uint64, where []byte) (*openedEntry, error) {
	r, err := decodeBody(where)
	if err != nil {
		return nil, err
	}
	w, err := a.opened(secret.epoch)
	if err != nil {
		return nil, err
	}
	plain, err := w.Unwrap(secret.blob, entryAAD(a.store.id, a.id, body))
	if err != nil {
		return nil, err
	}
	if len(plain) < keySize {
		return nil, errRecord
	}
	k, err := newMessageKey(plain[:keySize], a.store.id, body)
	clear(plain[:keySize])
	return &openedEntry{key: k, prefix: plain[keySize:], body: r}, err
}

func (s *Store) readSummary(e *openedEntry) (*Summary, error) {
	n := int64(e.body.summary)
	if e.body.plain <= headerInBody { // then the header is not in the summary, but behind it
		n = e.body.total()
	}
	sealed := make([]byte, n)
	if err := s.log.Read(e.body.segment, e.body.offset, sealed); err != nil {
		return nil, damaged(err)
	}
	sum, frame := sealed[:e.body.summary:e.body.summary], sealed[e.body.summary:]
	return e.openSummary(sum, func() ([]byte, error) {
		if len(frame) == 0 {
			return nil, errRecord
		}
		return e.key.open(frame, domainLast, 0)
	})
}

// openSummary opens the sealed summary in its own space, which is kept. body is what the body begins with, at least up to
// headerInBody; it is called if the header is there only, and is kept too.
func (e *openedEntry) openSummary(sealed []byte, body func() ([]byte, error)) (*Summary, error) {
	plain, err := e.key.open(sealed, domainSummary, 0)
	if err != nil {
		return nil, err
	}
	s := &Summary{Prefix: e.prefix}
	if s.summary, err = decodeSummary(plain); err != nil {
		return nil, err
	}
	if s.Index, err = s.summary.open(); err != nil {
		return nil, err
	}
	s.Header = s.summary.header
	if start := s.Index.Root.BodyStart; len(s.Header) == 0 && start > 0 {
		text, err := body()
		if err != nil {
			return nil, err
		}
		if start > int64(len(text)) {
			return nil, errRecord
		}
		s.Header = text[:start:start]
	}
	if len(e.prefix) > 0 {
		s.Header = append(append(make([]byte, 0, len(e.prefix)+len(s.Header)), e.prefix...), s.Header...)
	}
	return s, nil
}

// damaged is the error for a message that cannot be read. That the process has no more files or memory is no damage.
func damaged(err error) error {
	if errors.Is(err, blob.ErrGone) {
		return err // it is looked up again
	}
	for _, lack := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, fs.ErrClosed} {
		if errors.Is(err, lack) {
			return mail.E(mail.Unavailable, "the message cannot be read at the moment", err)
		}
	}
	return mail.E(mail.Corrupt, "the message is damaged", err)
}

// Summary is the summary of one message; its body is not opened. The error is of kind mail.NotFound if the message was
// expunged, mail.Corrupt if it is damaged.
func (m *Mailbox) Summary(_ context.Context, uid uint32) (sum *Summary, err error) {
	err = whereverItIs(func() error {
		e, err := m.entry(uid)
		if err == nil {
			sum, err = m.m.store.readSummary(e)
		}
		return err
	})
	return sum, err
}

// whereverItIs runs f, which looks up where a body is and reads there, again if its segment was reclaimed in between, or its key sealed under another
// epoch.
func whereverItIs(f func() error) error {
	var err error
	for range 8 { // one segment is reclaimed at a time, and not faster than it is written
		if err = f(); !errors.Is(err, blob.ErrGone) && !errors.Is(err, errNoEpoch) {
			return err
		}
	}
	if errors.Is(err, errNoEpoch) {
		return err
	}
	return mail.E(mail.Corrupt, "the message is damaged", err)
}

// Body opens a message for reading. The errors are those of Summary.
func (m *Mailbox) Body(_ context.Context, uid uint32) (c *Content, err error) {
	err = whereverItIs(func() error {
		e, err := m.entry(uid)
		if err == nil {
			c, err = m.m.store.content(e)
		}
		return err
	})
	return c, err
}

// content opens a body for reading.
func (s *Store) content(e *openedEntry) (*Content, error) {
	held, err := s.log.Hold(e.body.segment)
	if err != nil {
		return nil, damaged(err)
	}
	return &Content{held: held, entry: e, frame: -1}, nil
}

// Content is a message as served, prefix and then body, opened for reading at any offset. Its methods may be called
// concurrently. It stays readable when the message is expunged and its segment reclaimed, and when its mailbox and account are closed.
type Content struct {
	held  *blob.Held
	entry *openedEntry

	mu    sync.Mutex // guards what follows: the frame decrypted last
	frame int64
	plain []byte
}

// Size is the length in octets.
func (c *Content) Size() int64 { return int64(len(c.entry.prefix)) + c.entry.body.plain }

// ReadAt satisfies io.ReaderAt. Only the frames that are needed are read and decrypted. The error is of kind
// mail.Corrupt if the message is damaged.
func (c *Content) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	prefix := c.entry.prefix
	if off < int64(len(prefix)) {
		n = copy(p, prefix[off:])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n < len(p) {
		at := off + int64(n) - int64(len(prefix))
		if at >= c.entry.body.plain {
			return n, io.EOF
		}
		plain, err := c.open(at / frameSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], plain[at%frameSize:])
	}
	return n, nil
}

// open decrypts a frame. c.mu is held.
func (c *Content) open(frame int64) ([]byte, error) {
	if c.frame == frame {
		return c.plain, nil
	}
	if c.entry.key == nil {
		return nil, errors.New("the message is closed")
	}
	b := &c.entry.body
	const step = frameSize + tagSize
	size, domain := int64(step), byte(domainFrame)
	if frame == frames(b.plain)-1 {
		size, domain = b.sealed-frame*step, domainLast
	}
	sealed := c.plain[:0]
	if int64(cap(sealed)) < size {
		sealed = make([]byte, size)
	}
	sealed = sealed[:size]
	c.frame = -1
	if err := c.held.Read(b.offset+int64(b.summary)+frame*step, sealed); err != nil {
		return nil, damaged(err)
	}
	plain, err := c.entry.key.open(sealed, domain, uint32(frame))
	if err != nil {
		return nil, err
	}
	c.frame, c.plain = frame, plain
	return plain, nil
}

// Close forgets the key and what was decrypted. It may be called more than once.
func (c *Content) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entry.key != nil {
		c.held.Close()
	}
	clear(c.plain[:cap(c.plain)])
	c.frame, c.plain = -1, nil
	c.entry.key = nil
	return nil
}

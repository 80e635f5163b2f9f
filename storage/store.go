// Package storage is the mailbox store: messages, mailboxes, flags and mod-sequences, encrypted at rest.
//
// Every act is one record in an append-only log of segments (package blob): the sealed bodies and the changes to the
// index. When the record is flushed the act has happened; one flush serves all that wait. The index (package engine)
// is written later and brought up to date from the log when the store is opened. docs/flow.md has the argument why
// nothing acknowledged can be lost, docs/formats.md the bytes.
package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/escrow"
	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
	"cmmpd/storage/engine"
)

// Options say where a store is and what it works with. The zero value of everything but Dir and Keys is the default.
type Options struct {
	Dir    string
	Keys   keys.Keystore
	Escrow *escrow.Group // officers for whom the private key of every account is kept; nil: for nobody
	Log    *slog.Logger
	Now    func() time.Time // the clock; time.Now
	Rand   io.Reader        // randomness for keys; crypto/rand
	FS     durable.FS       // the file system; the operating system's. The index goes past it

	// Fatal is called once, from a goroutine of its own, when a write or flush has failed in such a way that nothing
	// can be acknowledged any more. The program should stop and be started again: opening the store recovers it.
	Fatal func(error)

	EpochAge       time.Duration // an account's epoch key is used no longer than this; 1 hour
	EpochMessages  int           // nor for more secrets than this; 10,000
	SegmentBytes   int64         // a segment file is closed when it is as long as this; 256 MiB
	MessageBytes   int64         // the longest message that is taken; 256 MiB
	CompactBelow   int           // a segment is compacted when less than so many per cent of it are needed; 60
	HouseRate      int64         // octets a second that housekeeping reads and writes; 16 MiB. Negative: no limit
	Reserve        int64         // mail is refused while less than this is free on the disk, or than a twentieth of the disk if that is less; 256 MiB. Negative: nothing
	KeepExpunges   int           // so many of the latest expunges of a mailbox are remembered for clients that come back; 10,000
	KeepMessageIDs time.Duration // Message-IDs, with thread and label, are forgotten when they were not of use for so long; 400 days
	ScrubEvery     time.Duration // how often all of the store is read and compared with its checksums; 7 days. Negative: never
	HouseEvery     time.Duration // how often housekeeping looks for work; 10 minutes. Negative: never
	RewrapRate     int           // so many accounts' keys a second are wrapped under a new platform key; 20. Negative: no limit
	Recover        time.Duration // how long deleted messages can be brought back; negative: not at all; 0: nothing is kept, and nothing that was kept is removed
	RecoverBytes   int64         // how much of them an account may hold; 1 GiB
	Quotas         Quotas        // what accounts and departments may hold; no limit
	Search         SearchOptions

	// Warn is called after a commit, from its goroutine, when an account or a department has come to a threshold of its quota and nobody
	// was told yet. It must not block. It is called again with each change until a Delivery says that it tells.
	Warn func(Warning)

	actBytes       int                               // how long the changes of one act may be; what the log can read again
	migrationBatch int                               // how many records one commit of a migration looks at
	act            int                               // how many messages one act moves, copies or removes
	index          func(engine.Engine) engine.Engine // what stands before the index, for tests to make it fail; nothing
}

// Defaults are the Options with the defaults in place.
func Defaults() Options {
	var o Options
	o.setDefaults()
	return o
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	o.recoverDefaults()
	if o.Warn == nil {
		o.Warn = func(Warning) {}
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
	if o.EpochAge <= 0 {
		o.EpochAge = time.Hour
	}
	o.Search.setDefaults()
	if o.RewrapRate == 0 {
		o.RewrapRate = 20
	}
	if o.EpochMessages <= 0 {
		o.EpochMessages = 10_000
	}
	if o.actBytes <= 0 {
		o.actBytes = blob.MaxOps
	}
	if o.migrationBatch <= 0 {
		o.migrationBatch = 256
	}
	if o.act <= 0 {
		o.act = boundedAct
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 256 << 20
	}
	if o.CompactBelow <= 0 {
		o.CompactBelow = 60
	}
	if o.Reserve == 0 {
		o.Reserve = 256 << 20
	}
	if o.KeepExpunges <= 0 {
		o.KeepExpunges = 10_000
	}
	if o.KeepMessageIDs <= 0 {
		o.KeepMessageIDs = 400 * 24 * time.Hour
	}
	if o.ScrubEvery == 0 {
		o.ScrubEvery = 7 * 24 * time.Hour
	}
	if o.HouseRate == 0 {
		o.HouseRate = 16 << 20
	}
	if o.HouseEvery == 0 {
		o.HouseEvery = 10 * time.Minute
	}
	if o.MessageBytes <= 0 || o.MessageBytes > maxMessage {
		o.MessageBytes = 256 << 20
	}
}

// maxMessage is what the index in memory can hold as a size.
const maxMessage = 1<<32 - 1<<20

// Store is an open mailbox store. All methods may be called concurrently.
type Store struct {
	o      Options
	id     blob.StoreID
	lock   *durable.Lock
	vault  *keys.Vault
	escrow *escrow.File // nil: there is none, nor officers

	// escrowing is held from when a key is put into escrow until it is in the vault, and exclusively while what is in escrow of accounts that are not
	// in the vault is removed, or an account's key from both.
	escrowing sync.RWMutex

	index engine.Engine
	kv    *engine.Behind
	log   *blob.Log // appended to and flushed under writing
	boot  uint64    // counts the openings in which something was changed

	bodyNext atomic.Uint64 // the EMAILID given last
	shown    atomic.Uint64 // how many batches of commits are written
	flushed  atomic.Uint64 // up to which of them the log is flushed
	failure  atomic.Pointer[mail.Error]

	writing chan struct{} // holds a token while somebody writes the log: the committer, or a commit that found it idle. Taken before mu
	armed   bool          // guarded by that: the committer knows that a flush is due

	gate sync.RWMutex // held shared by every commit, exclusively by Check

	mu      sync.Mutex // guards what follows; short, without I/O but reads of the index
	pending map[string]pendingValue
	skips   map[mailboxKey]uint32 // mailboxes with a copy that is to be taken back: UIDs up to this one are not given out
	queue   []*commit
	ending  bool // Close was called
	closing bool // nothing more is taken
	counted bool // the number of this opening is in the log

	wake      chan struct{} // to the committer: there is something in queue
	asks      chan ask      // to the committer
	committed chan struct{} // closed when the committer has ended
	writer    indexWriter
	searcher  searcher
	reads     atomic.Uint64 // counts what is read for those who wait

	pinMu  sync.Mutex
	pins   int       // backups under way: no segment's file is removed
	pinned time.Time // when the last backup ended

	house  housekeeper
	rewrap rewrapper
	space  space

	accountsMu sync.Mutex
	accounts   map[mail.AccountID]*account

	mailboxesMu sync.Mutex
	mailboxes   map[mailboxKey]*mailbox
	clock       uint64 // counts closings of mailboxes
	idle        int    // about how many messages those have that nobody has open

	blobs sync.Pool // *[]byte: room for what deliveries seal

	feedMu sync.Mutex
	feed   map[*func(mail.AccountID)]struct{}
}

// Open opens the store in o.Dir and makes it if the directory is absent or empty. Unless the store was closed properly,
// it is recovered from its log. Only one process can have a store open: for the second the error is of kind mail.Busy. A
// store of a newer format is refused with mail.Unsupported, a damaged one with mail.Corrupt.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	if o.Dir == "" || o.Keys == nil {
		return nil, mail.E(mail.Invalid, "", errors.New("a store needs a directory and a keystore"))
	}
	s := &Store{
		o: o, pending: make(map[string]pendingValue), skips: make(map[mailboxKey]uint32), accounts: make(map[mail.AccountID]*account),
		mailboxes: make(map[mailboxKey]*mailbox), feed: make(map[*func(mail.AccountID)]struct{}),
		writing: make(chan struct{}, 1), wake: make(chan struct{}, 1), asks: make(chan ask), committed: make(chan struct{}),
	}
	version, err := s.open()
	if err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	go s.commitLoop()
	s.writer.start(s)
	s.searcher.start(s)
	if err := s.migrate(ctx, version); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.house.start(s)
	s.rewrap.start(s)
	return s, nil
}

// open opens the files. version is the format of the store.
func (s *Store) open() (version int, err error) {
	fsys, dir := s.o.FS, s.o.Dir
	if err := makeDir(fsys, dir); err != nil {
		return 0, err
	}
	lock, err := durable.LockFile(filepath.Join(dir, lockFile))
	if errors.Is(err, durable.ErrLocked) {
		return 0, mail.E(mail.Busy, "", fmt.Errorf("another process has the store open: %w", err))
	} else if err != nil {
		return 0, err
	}
	s.lock = lock
	if s.id, version, err = openFormat(fsys, dir); err != nil {
		return 0, err
	}
	if s.vault, err = keys.OpenVault(fsys, filepath.Join(dir, vaultFile), s.id); err != nil {
		return 0, err
	}
	if err = s.openEscrow(); err != nil {
		return 0, err
	}
	bolt, err := engine.OpenBolt(fsys, filepath.Join(dir, indexFile))
	if err != nil {
		if mail.KindOf(err) == mail.Busy || mail.KindOf(damaged(err)) == mail.Unavailable || noSpace(err) {
			return 0, err
		}
		return 0, mail.E(mail.Corrupt, "", fmt.Errorf("the index %s cannot be read; move it away, and it is made again from the segments, or restore the last backup: %w", filepath.Join(dir, indexFile), err))
	}
	s.index = bolt
	if s.o.index != nil {
		s.index = s.o.index(bolt)
	}
	s.kv = engine.NewBehind(s.index)
	if err := fsys.SyncDir(dir); err != nil { // the flush that belongs to a renaming may have failed
		return 0, err
	}
	return version, s.replay()
}

// replay brings the index up to date from the log, by the same code that applies a commit.
func (s *Store) replay() error {
	var from blob.Position
	b, err := s.kv.Get(key0(keyPosition))
	if err != nil {
		return err
	}
	if b != nil {
		if from, err = decodePosition(b); err != nil {
			return err
		}
	}
	replayed, much := 0, maxPending/2
	o := blob.Options{FS: s.o.FS, Dir: filepath.Join(s.o.Dir, segmentsDir), Store: s.id, SegmentBytes: s.o.SegmentBytes}
	s.log, err = blob.Open(o, from, func(r *blob.Record) error {
		replayed++
		ops, err := decodeOps(r.Ops)
		if err != nil {
			return err
		}
		if err := s.apply(ops, r); err != nil {
			return err
		}
		if s.kv.Pending() > much {
			err = s.kv.Flush(func() error { return nil })
		}
		if noSpace(err) { // it stays in memory: mail can be read all the same
			much, err = 2*s.kv.Pending(), nil
		}
		return err
	})
	if err != nil {
		if errors.Is(err, blob.ErrDamaged) {
			err = mail.E(mail.Corrupt, "", err)
		} else if errors.Is(err, blob.ErrNewer) {
			err = mail.E(mail.Unsupported, "", err)
		}
		return fmt.Errorf("log: %w", err)
	}
	if err := s.complete(); err != nil {
		return err
	}
	if err := s.findSkips(); err != nil {
		return err
	}
	if replayed > 0 {
		s.o.Log.Info("the index was brought up to date from the log", "records", replayed)
	}
	top, err := s.kv.Get(key0(keyBodyTop))
	if err != nil {
		return err
	}
	n, err := decodeNumber(top)
	if err != nil {
		return err
	}
	s.bodyNext.Store(n)
	return s.nextBoot()
}

// nextBoot makes the number of this opening, with which mod-sequences that a crash may have undone are told apart. The
// first commit keeps it (enqueue): a store can be opened and read without a write, on a disk that is full.
func (s *Store) nextBoot() error {
	v, err := s.kv.Get(key0(keyBoots))
	if err != nil {
		return err
	}
	n, err := decodeNumber(v)
	s.boot = n + 1
	return err
}

// Close waits for what is being committed, writes the index and closes the store. Handles that are still open fail
// from then on.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		return nil
	}
	s.ending = true
	s.mu.Unlock()
	s.rewrap.stop()
	s.house.stop()
	s.searcher.stop()
	s.writer.stop() // before the committer, which it needs
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.poke()
	<-s.committed
	var err error
	if s.failure.Load() == nil {
		err = s.kv.Flush(s.log.Sync)
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.index != nil {
		errs = append(errs, s.index.Close())
	}
	if s.vault != nil {
		errs = append(errs, s.vault.Close())
	}
	if s.escrow != nil {
		errs = append(errs, s.escrow.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}

// Ready is nil while the store acknowledges, else the failure. It never becomes nil again.
func (s *Store) Ready() error {
	if e := s.failure.Load(); e != nil {
		return e
	}
	return nil
}

const unsaved = "the mail store cannot save at the moment"

// stop ends all acknowledging: what is on the disk is not known.
func (s *Store) stop(err error) {
	e := mail.E(mail.Unavailable, unsaved, err)
	if s.failure.CompareAndSwap(nil, e) {
		s.o.Log.Error("the mail store stops saving: start the program again", "error", err)
		go s.o.Fatal(err)
	}
}

// Watch has f called with the account after every commit that touched one of its mailboxes. f must not block. stop ends
// it.
func (s *Store) Watch(f func(mail.AccountID)) (stop func()) {
	s.feedMu.Lock()
	defer s.feedMu.Unlock()
	s.feed[&f] = struct{}{}
	return func() {
		s.feedMu.Lock()
		defer s.feedMu.Unlock()
		delete(s.feed, &f)
	}
}

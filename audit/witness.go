package audit

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/durable"
)

// WitnessOptions are what a Witness needs.
type WitnessOptions struct {
	Dir  string         // its own folder, where it remembers what it has seen; there is one process at a time
	Name string         // of its key
	Key  crypto.Signer  // Ed25519; used for nothing else, and by no other witness
	Logs []WitnessedLog // what it watches
	Copy bool           // take the logs' entries and cosign nothing that is not in the copy
	Log  *slog.Logger
	Now  func() time.Time
	FS   durable.FS // nil: the operating system's
}

// WitnessedLog is a log that a Witness watches.
type WitnessedLog struct {
	Key    []byte // its verifier key, as in audit.pub
	Origin string // empty: the key's name
}

// Witness cosigns the checkpoints of logs as long as they only grow (C2SP tlog-witness). It
// is an http.Handler with the paths /add-checkpoint, /<origin hash>/checkpoint and, with a
// copy, /add-entries. Before it answers, what it signs is on stable storage: it never signs
// two trees of one size, nor a tree smaller than one it has signed, whatever happens to it.
type Witness struct {
	o    WitnessOptions
	key  *cosigner
	logs map[string]*watched
	lock *durable.Lock
	mux  *http.ServeMux
	busy chan struct{} // one for each request under way
	bulk chan struct{} // one for each that brings entries
}

// Bounds of a request. The specification allows 63 hashes and sixteen signatures of 5 kB.
const (
	maxProof      = 63
	maxWitnessing = 160 << 10
)

// So many requests are served at a time, and so many of them that bring entries.
const (
	maxServed = 64
	maxBulk   = 2
)

// OpenWitness makes ready to serve. The error names what is wrong with the folder.
func OpenWitness(o WitnessOptions) (_ *Witness, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	w := &Witness{o: o, logs: make(map[string]*watched), mux: http.NewServeMux(), busy: make(chan struct{}, maxServed), bulk: make(chan struct{}, maxBulk)}
	if w.key, err = newCosigner(o.Name, o.Key); err != nil {
		return nil, fmt.Errorf("the witness's key: %w", err)
	}
	if w.lock, err = durable.LockFile(filepath.Join(o.Dir, "lock")); err != nil {
		return nil, err
	}
	for _, l := range o.Logs {
		if err := w.watch(l); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	w.mux.HandleFunc("POST /add-checkpoint", w.handle(w.addCheckpoint))
	w.mux.HandleFunc("POST /add-entries", w.handle(w.addEntries))
	w.mux.HandleFunc("GET /{hash}/checkpoint", w.handle(w.showCheckpoint))
	w.mux.HandleFunc("GET /{hash}/copied", w.handle(w.showCopied))
	return w, nil
}

// watch opens what the witness remembers of one log.
func (w *Witness) watch(l WitnessedLog) error {
	key, canonical, err := parseKey(l.Key)
	if err != nil {
		return fmt.Errorf("the key of a log: %w", err)
	}
	if l.Origin == "" {
		l.Origin = key.Name()
	}
	if w.logs[l.Origin] != nil {
		return fmt.Errorf("the log %s is named twice", l.Origin)
	}
	sum := sha256.Sum256([]byte(l.Origin))
	s := &watched{origin: l.Origin, key: key, fs: w.o.FS, log: w.o.Log, dir: filepath.Join(w.o.Dir, hex.EncodeToString(sum[:]))}
	if err := s.open(); err != nil {
		return fmt.Errorf("the log %s: %w", l.Origin, err)
	}
	if w.o.Copy {
		if s.copy, err = openCopy(filepath.Join(s.dir, "copy"), key, canonical, s.tree); err != nil {
			return fmt.Errorf("the copy of the log %s: %w", l.Origin, err)
		}
	}
	w.logs[l.Origin] = s
	return nil
}

// Close ends the witness. Nothing may be under way.
func (w *Witness) Close() error {
	for _, s := range w.logs {
		s.copy.close()
	}
	return w.lock.Unlock()
}

// Key is the witness's public key.
func (w *Witness) Key() *WitnessKey { return w.key.WitnessKey }

// ServeHTTP satisfies http.Handler.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.mux.ServeHTTP(rw, r) }

// refusal is an answer other than 200.
type refusedRequest struct {
	code int
	text string
	size bool // text is a tree size
}

func (r *refusedRequest) Error() string { return r.text }

func refused(code int, format string, args ...any) error {
	return &refusedRequest{code: code, text: fmt.Sprintf(format, args...)}
}

// conflict names the size that the client should begin from.
func conflict(size int64) error {
	return &refusedRequest{http.StatusConflict, strconv.FormatInt(size, 10), true}
}

const sizeType = "text/x.tlog.size"

// handle writes the answer, in one place.
func (w *Witness) handle(f func(*http.Request) ([]byte, error)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		var body []byte
		var err error
		select {
		case w.busy <- struct{}{}:
			body, err = f(r)
			<-w.busy
		default:
			err = refused(http.StatusServiceUnavailable, "too many requests at once")
		}
		var no *refusedRequest
		switch {
		case err == nil:
			rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = rw.Write(body) // a client that went away learns nothing
		case errors.As(err, &no) && no.size:
			rw.Header().Set("Content-Type", sizeType)
			rw.WriteHeader(no.code)
			_, _ = io.WriteString(rw, no.text+"\n")
		case errors.As(err, &no):
			w.o.Log.Warn("refused", "from", r.RemoteAddr, "code", no.code, "why", no.text)
			http.Error(rw, no.text, no.code)
		default:
			w.o.Log.Error("cannot serve", "from", r.RemoteAddr, "err", err)
			http.Error(rw, "the witness cannot do this now", http.StatusServiceUnavailable)
		}
	}
}

// readBody reads a request of limit bytes at most.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return nil, refused(http.StatusBadRequest, "the request could not be read")
	case int64(len(b)) > limit:
		return nil, refused(http.StatusRequestEntityTooLarge, "the request is longer than %d bytes", limit)
	}
	return b, nil
}

// addCheckpoint is POST /add-checkpoint.
func (w *Witness) addCheckpoint(r *http.Request) ([]byte, error) {
	b, err := readBody(r, maxWitnessing)
	if err != nil {
		return nil, err
	}
	q, err := parseAddCheckpoint(b)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "not a request to add a checkpoint: %v", err)
	}
	s, c, err := w.signedByLog(q.note)
	if err != nil {
		return nil, err
	}
	if q.old > c.tree.N {
		return nil, refused(http.StatusBadRequest, "the old size is above that of the checkpoint")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.grow(q, c, b, w.o.Now()); err != nil {
		return nil, err
	}
	l, err := w.key.cosign(c.body, s.at)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return []byte(l.line()), nil
}

// signedByLog finds the log of a checkpoint and checks its signature.
func (w *Witness) signedByLog(b []byte) (*watched, *seenCheckpoint, error) {
	origin, _, _ := bytes.Cut(b, []byte("\n"))
	s := w.logs[string(origin)]
	if s == nil {
		return nil, nil, refused(http.StatusNotFound, "this log is not watched here")
	}
	n, err := note.Open(b, note.VerifierList(s.key))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &invalid):
		return nil, nil, refused(http.StatusForbidden, "the checkpoint has no good signature of the log")
	case err != nil:
		return nil, nil, refused(http.StatusBadRequest, "not a signed note")
	}
	c, err := parseSeen(n)
	if err != nil {
		return nil, nil, refused(http.StatusBadRequest, "not a checkpoint: %v", err)
	}
	return s, c, nil
}

// showCheckpoint is GET /<origin hash>/checkpoint: the last one cosigned.
func (w *Witness) showCheckpoint(r *http.Request) ([]byte, error) {
	s := w.byHash(r.PathValue("hash"))
	if s == nil {
		return nil, errNoCheckpoint
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return nil, errNoCheckpoint
	}
	l, err := w.key.cosign(s.last.body, s.at)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return append(s.last.encode(), l.line()...), nil
}

// showCopied is GET /<origin hash>/copied: the checkpoint of the copy, which may be ahead.
func (w *Witness) showCopied(r *http.Request) ([]byte, error) {
	s := w.byHash(r.PathValue("hash"))
	if s == nil {
		return nil, errNoCheckpoint
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copy == nil || s.copy.store == nil {
		return nil, errNoCheckpoint
	}
	return bytes.Clone(s.copy.store.last), nil
}

var errNoCheckpoint = refused(http.StatusNotFound, "there is no checkpoint of this log")

// byHash is the log whose origin has that hash, or nil.
func (w *Witness) byHash(hash string) *watched {
	for _, s := range w.logs {
		if filepath.Base(s.dir) == hash {
			return s
		}
	}
	return nil
}

// addRequest is the body of add-checkpoint.
type addRequest struct {
	old   int64
	proof tlog.TreeProof
	note  []byte
}

// parseAddCheckpoint reads "old <size>", the proof, an empty line and the checkpoint.
func parseAddCheckpoint(b []byte) (*addRequest, error) {
	head, rest, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return nil, errors.New("no empty line")
	}
	lines := strings.Split(string(head), "\n")
	number, ok := strings.CutPrefix(lines[0], "old ")
	if !ok {
		return nil, errors.New("no old size")
	}
	q := &addRequest{note: rest}
	var err error
	if q.old, err = parseSize(number); err != nil {
		return nil, err
	}
	if len(lines)-1 > maxProof {
		return nil, fmt.Errorf("more than %d hashes", maxProof)
	}
	for _, l := range lines[1:] {
		h, err := tlog.ParseHash(l)
		if err != nil || h.String() != l {
			return nil, errors.New("not a hash in base64")
		}
		q.proof = append(q.proof, h)
	}
	return q, nil
}

// encode writes the request.
func (q *addRequest) encode() []byte {
	b := fmt.Appendf(nil, "old %d\n", q.old)
	for _, h := range q.proof {
		b = append(append(b, h.String()...), '\n')
	}
	return append(append(b, '\n'), q.note...)
}

// parseSize reads a tree size in its one form.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxRecords || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("not a tree size")
	}
	return n, nil
}

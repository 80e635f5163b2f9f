package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"
)

// WitnessPeer is a witness that a Log asks.
type WitnessPeer struct {
	URL    *url.URL     // its submission prefix, which serves as its monitoring prefix as well
	Key    *WitnessKey  // whose cosignatures count
	Client *http.Client // with its TLS and a time limit for one request
	Copy   bool         // it keeps a copy of the log: bring it the entries first
}

// peer is a witness as the Log knows it.
type peer struct {
	WitnessPeer
	log *Log

	busy atomic.Bool // it is being asked; who made it true owns the rest
	size int64       // what it has cosigned last, as far as is known
	has  int64       // what its copy has; -1: not known
}

// snapshot is a state of the log to be witnessed.
type snapshot struct {
	signed []byte
	tail   *tail
}

// errTwoLogs says that a witness has proof of a log of our key that ours does not continue.
var errTwoLogs = errors.New("the log is not the one that was witnessed")

const maxWitnessAnswer = 64 << 10

// ask gets the witness's cosignature of a checkpoint of ours.
func (p *peer) ask(ctx context.Context, now snapshot) (*cosignature, error) {
	if p.Copy {
		if err := p.bring(ctx, now); err != nil {
			return nil, err
		}
	}
	for range 2 {
		proof, err := now.tail.proof(ctx, p.size, p.log.readTile)
		if err != nil {
			return nil, fmt.Errorf("proving that the log has grown: %w", err)
		}
		q := addRequest{p.size, proof, now.signed}
		code, body, err := p.post(ctx, "add-checkpoint", q.encode())
		if err != nil {
			return nil, err
		}
		switch code {
		case http.StatusOK:
			c, err := p.cosignature(now.signed, body)
			if err == nil {
				p.size = now.tail.size
			}
			return c, err
		case http.StatusConflict:
			n, err := parseSize(strings.TrimSuffix(string(body), "\n"))
			if err != nil {
				return nil, errors.New("it names no size that it wants to begin from")
			}
			if n > now.tail.size {
				return nil, p.prove(ctx, "checkpoint", n, now)
			}
			p.size = n
		case http.StatusUnprocessableEntity:
			return nil, errors.Join(p.prove(ctx, "checkpoint", p.size, now), answered(code, body))
		default:
			return nil, answered(code, body)
		}
	}
	return nil, errors.New("it does not keep to the size that it named")
}

func answered(code int, body []byte) error {
	text, _, _ := strings.Cut(string(body), "\n")
	return fmt.Errorf("it answered %d %q", code, text[:min(len(text), 200)])
}

// post sends one request and reads the answer.
func (p *peer) post(ctx context.Context, path string, body []byte) (int, []byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	q.Header.Set("Content-Type", "application/octet-stream")
	return p.do(q)
}

func (p *peer) do(q *http.Request) (int, []byte, error) {
	a, err := p.Client.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, maxWitnessAnswer))
	return a.StatusCode, b, err
}

// cosignature finds the witness's line in an answer; those of unknown keys do not count.
func (p *peer) cosignature(signed, body []byte) (*cosignature, error) {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	for line := range strings.Lines(string(body)) {
		c, err := parseCosignature(strings.TrimSuffix(line, "\n"))
		if err != nil || !c.by(p.Key) {
			continue
		}
		if _, ok := p.Key.check(text+"\n", c); !ok {
			return nil, errors.New("its cosignature is not good")
		}
		return c, nil
	}
	return nil, errors.New("it answered without a cosignature by its key")
}

// prove asks for the checkpoint that the witness has cosigned and holds it against ours.
// errTwoLogs is in the error only if the witness shows one that our key has signed: what
// a witness merely says stops nothing.
func (p *peer) prove(ctx context.Context, path string, size int64, now snapshot) error {
	doubt := func(err error) error {
		return fmt.Errorf("it says that it has seen another log of %d records, ours has %d, but it does not show it: %w", size, now.tail.size, err)
	}
	sum := sha256.Sum256([]byte(p.log.store.key.Name()))
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL.JoinPath(hex.EncodeToString(sum[:]), path).String(), nil)
	if err != nil {
		return doubt(err)
	}
	code, body, err := p.do(q)
	if err == nil && code != http.StatusOK {
		err = answered(code, body)
	}
	if err != nil {
		return doubt(err)
	}
	theirs, err := parseCosigned(body, p.log.store.key, false)
	if err != nil {
		return doubt(err)
	}
	if theirs.tree.N > now.tail.size {
		if p.log.Size() >= theirs.tree.N {
			return errors.New("it was asked by another process of ours") // a snapshot of before
		}
		return fmt.Errorf("%w: it has seen %d records under our signature, the log has %d: the log was cut, or an old copy was put back", errTwoLogs, theirs.tree.N, now.tail.size)
	}
	root, err := tlog.TreeHash(theirs.tree.N, now.tail.hashes(p.log.readTile))
	if err != nil {
		return doubt(err)
	}
	if root != theirs.tree.Hash {
		return fmt.Errorf("%w: the first %d records that it has seen under our signature are others than the first %d of our %d", errTwoLogs, theirs.tree.N, theirs.tree.N, now.tail.size)
	}
	return doubt(errors.New("what it shows is the beginning of ours"))
}

// readTile reads a full tile of the log, which never changes.
func (l *Log) readTile(t tlog.Tile) ([]byte, error) { return readFullTile(l.store.root, t) }

// bring brings the copy of the witness up to the snapshot, by as many requests as it takes.
func (p *peer) bring(ctx context.Context, now snapshot) error {
	for p.has < now.tail.size {
		next, entries, err := p.nextEntries(now)
		if err != nil {
			return err
		}
		signed := now.signed
		if next < now.tail.size {
			if signed, err = p.log.signBeginning(next, now.tail); err != nil {
				return err
			}
		}
		code, body, err := p.post(ctx, "add-entries", entriesRequest(max(p.has, 0), next, signed, entries))
		switch {
		case err != nil:
			return err
		case code == http.StatusOK:
			p.has = next
		case code == http.StatusConflict:
			n, err := parseSize(strings.TrimSuffix(string(body), "\n"))
			if err != nil || n == p.has {
				return fmt.Errorf("its copy: %w", answered(code, body))
			}
			if n > now.tail.size {
				return p.prove(ctx, "copied", n, now)
			}
			p.has = n
		case code == http.StatusUnprocessableEntity:
			return errors.Join(p.prove(ctx, "copied", p.has, now), answered(code, body))
		default:
			return fmt.Errorf("its copy: %w", answered(code, body))
		}
	}
	return nil
}

// nextEntries are the entries for the next request, up to the record next. As long as it
// is not known what the copy has, there are none: a copy begins with the checkpoint of no
// entries, and one that has begun says what it has.
func (p *peer) nextEntries(now snapshot) (next int64, out []byte, err error) {
	if p.has < 0 {
		return 0, nil, nil
	}
	next = p.has
	for next < now.tail.size && next-p.has < maxCopied-tileWidth && len(out) < maxCopiedSize/3 {
		n := next >> tileHeight
		bundle := now.tail.bundle
		if t := fileOf(entries, n, now.tail.size); t.W == tileWidth {
			if bundle, err = p.log.store.root.ReadFile(tileName(t)); err != nil {
				return 0, nil, err
			}
		}
		for range next - n<<tileHeight {
			if _, rest, ok := cutEntry(bundle); ok {
				bundle = rest
			}
		}
		out = append(out, bundle...)
		next = min((n+1)<<tileHeight, now.tail.size)
	}
	return next, out, nil
}

// signBeginning signs the checkpoint of the first size records of a log that ends with t.
// That is no second history: it is what the log was.
func (l *Log) signBeginning(size int64, t *tail) ([]byte, error) {
	root, err := tlog.TreeHash(size, t.hashes(l.readTile))
	if err != nil {
		return nil, err
	}
	return l.store.key.sign(tlog.Tree{N: size, Hash: root})
}

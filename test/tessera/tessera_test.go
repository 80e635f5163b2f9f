// Package tessera has other people's programs look at our audit log and at our witness. It
// is a module of its own, so that the daemon depends on none of theirs.
package tessera

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/audit"
)

const origin = "log.example/audit"

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func verifierOf(t *testing.T, vkey []byte) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// newLog is an audit log of ours.
func newLog(t *testing.T) (*audit.Log, string) {
	t.Helper()
	key, o := newKey(t), audit.Options{Origin: origin, Queue: 1 << 20}
	dir := filepath.Join(t.TempDir(), "audit")
	if err := audit.Create(dir, key, o); err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(dir, key, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, dir
}

func fill(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		l.Note(audit.Event{Type: audit.MailSealed, Subject: fmt.Sprint(i)})
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// leafHashes is how fsck takes an entry bundle apart.
func leafHashes(bundle []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range b.Entries {
		h := tlog.RecordHash(e)
		out = append(out, h[:])
	}
	return out, nil
}

func check(ctx context.Context, t *testing.T, l *audit.Log, dir string) error {
	t.Helper()
	return fsck.New(origin, verifierOf(t, l.PublicKey()), client.FileFetcher{Root: dir}, leafHashes, fsck.Opts{N: 16}).Check(ctx) // a worker that finds a fault ends, and without any it would hang
}

// Tessera's fsck finds our log good, at every shape of its edge, and finds what is wrong.
func TestFsck(t *testing.T) {
	l, dir := newLog(t)
	for _, n := range []int{1, 254, 1, 1, 767, 64512, 300} {
		fill(t, l, n)
		if err := check(t.Context(), t, l, dir); err != nil {
			t.Fatalf("%d records: %v", l.Size(), err)
		}
	}
	for _, name := range []string{"tile/entries/000", "tile/0/017", "checkpoint"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if check(t.Context(), t, l, dir) == nil {
			t.Errorf("%s was changed, and fsck does not see it", name)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Tessera's client follows our log as it grows, and proves what is in it.
func TestClient(t *testing.T) {
	l, dir := newLog(t)
	f, v := client.FileFetcher{Root: dir}, verifierOf(t, l.PublicKey())
	fill(t, l, 300)
	tracker, err := client.NewLogStateTracker(t.Context(), f.ReadTile, nil, v, origin, client.UnilateralConsensus(f.ReadCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		fill(t, l, 700)
		if _, _, _, err := tracker.Update(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := tracker.Latest().Size; n != uint64(l.Size()) {
			t.Errorf("the client sees %d records of %d", n, l.Size())
		}
	}
	proofs, err := client.NewProofBuilder(t.Context(), uint64(l.Size()), f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proofs.InclusionProof(t.Context(), 555)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := client.GetEntryBundle(t.Context(), f.ReadEntryBundle, 555/256, uint64(l.Size()))
	if err != nil {
		t.Fatal(err)
	}
	var proof tlog.RecordProof
	for _, h := range p {
		proof = append(proof, tlog.Hash(h))
	}
	latest := tracker.Latest()
	if err := tlog.CheckRecord(proof, l.Size(), tlog.Hash(latest.Hash), 555, tlog.RecordHash(bundle.Entries[555%256])); err != nil {
		t.Error(err)
	}
}

// newWitness is a witness of ours that watches the logs with these keys.
func newWitness(t *testing.T, logs ...[]byte) (*audit.Witness, *httptest.Server) {
	t.Helper()
	o := audit.WitnessOptions{Dir: t.TempDir(), Name: "witness.example/w1", Key: newKey(t)}
	for _, k := range logs {
		o.Logs = append(o.Logs, audit.WitnessedLog{Key: k})
	}
	w, err := audit.OpenWitness(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(w)
	t.Cleanup(func() {
		s.Close()
		w.Close()
	})
	return w, s
}

// What our witness cosigned of our log is good for the reader of transparency-dev/formats.
func TestCosignatureIsReadByOthers(t *testing.T) {
	l, dir := newLog(t)
	w, s := newWitness(t, l.PublicKey())
	u, _ := url.Parse(s.URL)
	ws := l.Witness(audit.Witnessing{Peers: []audit.WitnessPeer{{URL: u, Key: w.Key(), Client: s.Client()}}, Require: 1, Within: time.Hour})
	fill(t, l, 10)
	path := filepath.Join(dir, "checkpoint.cosigned")
	for end := time.Now().Add(time.Minute); ws.State().Cosigned < l.Size(); {
		if time.Now().After(end) {
			t.Fatal("not cosigned within a minute")
		}
		time.Sleep(time.Millisecond)
	}
	ws.Close()
	l.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := fnote.NewVerifierForCosignatureV1(w.Key().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(b, note.VerifierList(verifierOf(t, l.PublicKey()), theirs))
	if err != nil || len(n.Sigs) != 2 || len(n.UnverifiedSigs) != 0 {
		t.Fatalf("%+v, %v", n, err)
	}
	if at, err := fnote.CoSigV1Timestamp(n.Sigs[1]); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("%v, %v", at, err)
	}
	b[len(b)-10] ^= 1
	if n, err := note.Open(b, note.VerifierList(verifierOf(t, l.PublicKey()), theirs)); err == nil && len(n.Sigs) == 2 {
		t.Error("a changed cosignature is good")
	}
}

// A log of Tessera's asks our witness: it publishes only what that has cosigned.
func TestTesseraAsksOurWitness(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "tessera.example/log")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	w, s := newWitness(t, []byte(vkey))
	u, _ := url.Parse(s.URL)
	peer, err := tessera.NewWitness(w.Key().String(), u)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithCheckpointInterval(200*time.Millisecond).WithBatching(10, 10*time.Millisecond).
		WithWitnesses(tessera.NewWitnessGroup(1, peer), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer shutdown(ctx)
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 50*time.Millisecond)
	theirs, err := fnote.NewVerifierForCosignatureV1(w.Key().String())
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		var signed []byte
		for i := range 20 {
			if _, signed, err = await.Await(ctx, appender.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "%d/%d", round, i)))); err != nil {
				t.Fatal(err)
			}
			if i == 3 {
				break
			}
		}
		n, err := note.Open(signed, note.VerifierList(verifierOf(t, []byte(vkey)), theirs))
		if err != nil || len(n.Sigs) != 2 {
			t.Fatalf("%q: %v", signed, err)
		}
	}
}

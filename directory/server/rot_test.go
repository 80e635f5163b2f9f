package server

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"cmmpd/internal/mail"
)

// small makes a directory with certificates and passwords, and returns its export.
func small(t testing.TB, path string) string {
	t.Helper()
	s, _ := newTest(t, Options{Path: path})
	want := export(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

// TestRot changes one bit of the database at a time. It is noticed when the database is opened, or by whoever reads, or does not matter; what is
// read is never wrong, nobody and nothing is missing, and nothing ends the program.
func TestRot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	want := small(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(good)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "head") {
			at = at&^4095 + at%128
		}
		bad := bytes.Clone(good)
		bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if err := errors.Join(os.Remove(path), os.WriteFile(path, bad, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Path: path, BaseDN: testBase, Rounds: 4096})
		if mail.KindOf(err) == mail.Corrupt {
			count["not opened"]++
			return
		} else if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var b bytes.Buffer
		if err := s.Export(t.Context(), &b); err != nil {
			count["noticed"]++
		} else if b.String() != want {
			t.Fatal("the export is another")
		} else {
			count["unused"]++
		}
		if who, stored, err := s.credentials("alice"); err == nil && (who.key == "" || len(stored) != 1) {
			t.Fatal("alice is not known")
		}
	})
	t.Log(count)
}

// TestWithoutSums opens a database as it was before values had checksums: it gets them, and all is as it was. An older program refuses it.
func TestWithoutSums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	want := small(t, path)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketEntry, bucketDN, bucketIndex} {
			old := make(map[string][]byte)
			b := tx.Bucket(name)
			err := b.ForEach(func(k, v []byte) error {
				old[string(k)] = bytes.Clone(v[:len(v)-4])
				return nil
			})
			for k, v := range old {
				err = errors.Join(err, b.Put([]byte(k), v))
			}
			if err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put([]byte("format"), []byte("cmmpd directory 1"))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := Open(Options{Path: path, BaseDN: testBase})
		if err != nil {
			t.Fatal(err)
		}
		if got := export(t, s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		checkIndexes(t, s)
		mustImport(t, s, "dn: cn=new,"+testBase+"\nchangetype: add\nobjectClass: groupOfNames\ncn: new\nmember: "+testBase+"\n")
		mustImport(t, s, "dn: cn=new,"+testBase+"\nchangetype: delete\n")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if db, err = bbolt.Open(path, 0o600, nil); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		if got := string(tx.Bucket(bucketMeta).Get([]byte("format"))); got == "cmmpd directory 1" || !strings.HasPrefix(got, format) {
			t.Errorf("format %q", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

package e2e

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// thief has files of a platform, and knows docs/formats.md. It has its own decoders: nothing here is the program's. It reads all history that is in
// the segments, and the index, and tries every key that it has on everything; what it could read is in loot.
type thief struct {
	t        testing.TB
	store    []byte // the store's ID
	names    map[uint32]string
	pub      map[string][]byte            // accounts' wrapped private keys
	sealed   map[string]map[uint32][]byte // epochs' sealed keys
	segments map[uint32][]byte
	bodyOf   map[string]map[uint64]bool // of an entry, by account, mailbox and UID: the bodies that it has had
	secrets  map[string][][]byte        // of an entry: what its key was sealed as
	places   map[uint64][]place
	texts    map[uint32][][]byte // of an account: sealed names
	queued   [][2][]byte         // key, value
	searches []string

	epochs map[string]map[uint32]cipher.AEAD // what could be opened
	loot   bytes.Buffer
	words  bytes.Buffer // of loot, what was in the search index
}

// place is where a body is.
type place struct {
	segment               uint32
	offset                int64
	summary, sealed, size int64
}

// steal reads a store's folder, and the vault in that of another.
func steal(t testing.TB, dir, vault string) *thief {
	f := &thief{
		t: t, names: map[uint32]string{}, pub: map[string][]byte{}, sealed: map[string]map[uint32][]byte{}, segments: map[uint32][]byte{}, bodyOf: map[string]map[uint64]bool{},
		secrets: map[string][][]byte{}, places: map[uint64][]place{}, texts: map[uint32][][]byte{}, epochs: map[string]map[uint32]cipher.AEAD{},
	}
	format := strings.Fields(string(f.file(dir, "format")))
	f.store, _ = hex.DecodeString(format[len(format)-1])
	f.vault(f.file(vault, "vault"))
	paths, _ := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	for _, path := range paths {
		f.segment(f.file(path))
	}
	f.index(filepath.Join(dir, "index.db"))
	f.searches, _ = filepath.Glob(filepath.Join(dir, "search", "*", "*.idx"))
	if len(f.store) != 16 || len(f.secrets) == 0 || len(f.places) == 0 {
		t.Fatalf("the thief finds nothing to try: %d keys, %d bodies", len(f.secrets), len(f.places))
	}
	return f
}

func (f *thief) file(elem ...string) []byte {
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *thief) vault(b []byte) {
	for at := 64; at+32 <= len(b) && string(b[at:at+4]) == "CMv1"; {
		n := int(binary.LittleEndian.Uint32(b[at+16:]))
		kind, p := binary.LittleEndian.Uint32(b[at+4:]), b[at+28:at+28+n]
		id, rest := string(p[1:1+p[0]]), p[1+p[0]:]
		switch kind {
		case 1:
			if wrapped := rest[3+binary.LittleEndian.Uint16(rest[1:]):]; len(wrapped) > 0 {
				f.pub[id] = wrapped
			}
		case 4:
			f.pub[id] = rest[1+rest[0]:]
		case 2:
			if f.sealed[id] == nil {
				f.sealed[id] = map[uint32][]byte{}
			}
			f.sealed[id][binary.LittleEndian.Uint32(rest)] = rest[4:]
		}
		at += 28 + n
	}
	if len(f.pub) == 0 {
		f.t.Fatal("the thief finds no account in the vault")
	}
}

// segment reads the records of a segment: bodies, and what they put into the index.
func (f *thief) segment(b []byte) {
	number := binary.LittleEndian.Uint32(b[12:])
	f.segments[number] = b
	for at := 64; at+48 <= len(b) && string(b[at:at+4]) == "CMr1"; {
		blob, ops := int(binary.LittleEndian.Uint64(b[at+24:])), int(binary.LittleEndian.Uint32(b[at+32:]))
		in := b[at+48+blob : at+48+blob+ops]
		count := uvar(&in)
		for range count {
			kind := in[0]
			in = in[1:]
			key := take(&in)
			if kind == 2 {
				continue
			}
			f.record(key, take(&in), kind == 3 || kind == 4, number, int64(at+48))
		}
		at += 48 + blob + ops
	}
}

func uvar(b *[]byte) uint64 {
	v, n := binary.Uvarint(*b)
	if n <= 0 {
		*b = nil
		return 0
	}
	*b = (*b)[n:]
	return v
}

func take(b *[]byte) []byte {
	n := min(uvar(b), uint64(len(*b)))
	v := (*b)[:n]
	*b = (*b)[n:]
	return v
}

func (f *thief) index(path string) {
	copied := filepath.Join(f.t.TempDir(), "index")
	if err := os.WriteFile(copied, f.file(path), 0o600); err != nil {
		f.t.Fatal(err)
	}
	db, err := bbolt.Open(copied, 0o600, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("kv2")).ForEach(func(k, v []byte) error {
			f.record(bytes.Clone(k), bytes.Clone(v[:len(v)-4]), false, 0, 0)
			return nil
		})
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// record notes what the index says, or said once.
func (f *thief) record(k, v []byte, relative bool, segment uint32, base int64) {
	account := func() uint32 { return binary.BigEndian.Uint32(k[1:]) }
	text := func(b *[]byte) {
		start := *b
		uvar(b)
		f.texts[account()] = append(f.texts[account()], append(binary.AppendUvarint(nil, uvar(&start)), take(b)...))
	}
	in := v
	switch k[0] {
	case 'A':
		f.names[uint32(uvar(&in))] = string(k[1:])
	case 'E':
		uvar(&in)
		of := string(k[1:])
		if f.bodyOf[of] == nil {
			f.bodyOf[of] = map[uint64]bool{}
		}
		f.bodyOf[of][uvar(&in)] = true
	case 'K':
		f.secrets[string(k[1:])] = append(f.secrets[string(k[1:])], v)
	case 'B':
		uvar(&in)
		p := place{segment: uint32(uvar(&in)), offset: int64(uvar(&in)), summary: int64(uvar(&in)), sealed: int64(uvar(&in)), size: int64(uvar(&in))}
		if relative {
			p.segment, p.offset = segment, base+p.offset
		}
		f.places[binary.BigEndian.Uint64(k[1:])] = append(f.places[binary.BigEndian.Uint64(k[1:])], p)
	case 'M':
		in = in[17:]
		text(&in)
		for range uvar(&in) {
			in = in[16:]
			text(&in)
		}
	case 'U':
		text(&in)
	case 'Q':
		f.queued = append(f.queued, [2][]byte{k, v})
	}
}

// open opens what has its nonce in front, or nil.
func open(key cipher.AEAD, sealed, aad []byte) []byte {
	if len(sealed) < 28 {
		return nil
	}
	plain, err := key.Open(nil, sealed[:12], sealed[12:], aad)
	if err != nil {
		return nil
	}
	return plain
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	g, _ := cipher.NewGCM(block)
	return g
}

// fileKey is a key of a file keystore, as Wrap uses it.
func (f *thief) fileKey(path string) cipher.AEAD {
	p, _ := pem.Decode(f.file(path))
	key, err := hkdf.Key(sha256.New, p.Bytes, nil, "cmmpd keystore 1 wrap", 32)
	if err != nil {
		f.t.Fatal(err)
	}
	return gcm(key)
}

// try opens all that the given keys of the keystore open, and says how many messages that were.
func (f *thief) try(keys ...cipher.AEAD) (messages int) {
	kem, kdf, aead := hpke.DHKEM(ecdh.P256()), hpke.HKDFSHA256(), hpke.AES256GCM()
	for id, wrapped := range f.pub {
		for _, key := range keys {
			raw := open(key, wrapped, []byte("cmmpd account key 1 "+id))
			if raw == nil {
				continue
			}
			priv, err := kem.NewPrivateKey(raw)
			if err != nil {
				f.t.Fatal(err)
			}
			f.epochs[id] = map[uint32]cipher.AEAD{}
			for n, sealed := range f.sealed[id] {
				if epoch, err := hpke.Open(priv, kdf, aead, append(binary.BigEndian.AppendUint32([]byte("cmmpd epoch key 1 "), n), id...), sealed); err == nil {
					f.epochs[id][n] = gcm(epoch)
				}
			}
		}
	}
	read := map[uint64]bool{}
	for of, list := range f.secrets {
		id := f.names[binary.BigEndian.Uint32([]byte(of))]
		for body := range f.bodyOf[of] {
			aad := append(binary.BigEndian.AppendUint64(append([]byte("cmmpd entry 1 "), f.store...), body), id...)
			for _, v := range list {
				in := v
				uvar(&in)
				for _, epoch := range f.epochs[id] {
					if plain := open(epoch, in, aad); plain != nil && f.body(body, plain) {
						read[body] = true
					}
				}
				for _, key := range keys { // perhaps it is no epoch's
					if plain := open(key, in, aad); plain != nil && f.body(body, plain) {
						read[body] = true
					}
				}
			}
		}
	}
	f.queue(keys, read)
	f.nameTexts()
	f.search()
	return len(read)
}

// body reads a body with its key; the prefix of the header is behind the key.
func (f *thief) body(id uint64, plain []byte) (ok bool) {
	if len(plain) < 32 {
		return false
	}
	key := gcm(plain[:32])
	f.loot.Write(plain[32:])
	unseal := func(sealed []byte, domain byte, frame uint32) []byte {
		var nonce [12]byte
		nonce[0] = domain
		binary.BigEndian.PutUint32(nonce[8:], frame)
		aad := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(bytes.Clone(f.store), id), frame)
		plain, err := key.Open(nil, nonce[:], sealed, aad)
		if err != nil {
			return nil
		}
		return plain
	}
	for _, p := range f.places[id] {
		seg := f.segments[p.segment]
		if p.offset+p.summary+p.sealed > int64(len(seg)) {
			continue
		}
		f.loot.Write(unseal(seg[p.offset:p.offset+p.summary], 3, 0))
		frames := seg[p.offset+p.summary : p.offset+p.summary+p.sealed]
		for n := uint32(0); len(frames) > 0; n++ {
			sealed := frames[:min(len(frames), 64<<10+16)]
			frames = frames[len(sealed):]
			domain := byte(1)
			if len(frames) == 0 {
				domain = 2
			}
			text := unseal(sealed, domain, n)
			f.loot.Write(text)
			ok = ok || text != nil
		}
	}
	return ok
}

// queue reads what waits, or has waited, to go to other domains.
func (f *thief) queue(keys []cipher.AEAD, read map[uint64]bool) {
	for _, q := range f.queued {
		in := q[1]
		body := uvar(&in)
		uvar(&in)
		aad := append([]byte("cmmpd queue item 1 "), f.store...)
		aad = append(aad, q[0][1:]...)
		aad = binary.BigEndian.AppendUint64(aad, body)
		for _, key := range keys {
			if plain := open(key, in[9:], aad); plain != nil && f.body(body, plain) {
				read[body] = true
			}
		}
	}
}

// nameTexts reads names of mailboxes and keywords.
func (f *thief) nameTexts() {
	for account, list := range f.texts {
		id := f.names[account]
		for _, v := range list {
			in := v
			uvar(&in)
			for _, epoch := range f.epochs[id] {
				if plain := open(epoch, in, append(append([]byte("cmmpd name 1 "), f.store...), id...)); plain != nil {
					fmt.Fprintf(&f.loot, "\n%s\n", plain)
				}
			}
		}
	}
}

// search reads the terms of search files.
func (f *thief) search() {
	for _, path := range f.searches {
		b := f.file(path)
		account, number := binary.LittleEndian.Uint32(b[28:]), binary.LittleEndian.Uint32(b[32:])
		wrapped := b[60 : 60+binary.LittleEndian.Uint16(b[52:])]
		id := f.names[account]
		aad := append(binary.BigEndian.AppendUint32(append([]byte("cmmpd search key 1 "), f.store...), number), id...)
		for _, epoch := range f.epochs[id] {
			if key := open(epoch, wrapped, aad); key != nil {
				f.terms(b, gcm(key), account, number)
			}
		}
	}
}

func (f *thief) terms(b []byte, key cipher.AEAD, account, number uint32) {
	bound := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(append([]byte("cmmpd search block 1 "), f.store...), account), number)
	read := func(at, n int64) []byte {
		nonce := binary.BigEndian.AppendUint64(make([]byte, 4), uint64(at))
		plain, err := key.Open(nil, nonce, b[at:at+n+16], bound)
		if err != nil {
			f.t.Fatalf("a block of the search index does not open: %v", err)
		}
		return plain
	}
	foot := read(int64(len(b))-72, 56)
	at, table, n := int64(binary.BigEndian.Uint64(foot[8:])), int64(binary.BigEndian.Uint64(foot[16:])), int64(binary.BigEndian.Uint32(foot[32:]))
	blocks := read(table, n)
	for len(blocks) > 0 {
		postings, octets := int64(uvar(&blocks)), int64(uvar(&blocks))
		take(&blocks)
		at += postings + (postings+64<<10-1)/(64<<10)*16
		block := read(at, octets)
		f.words.Write(block)
		f.loot.Write(block)
		at += octets + 16
	}
}

// forms are the ways in which a marker may stand somewhere.
func forms(marker string) (list [][]byte) {
	utf16 := make([]byte, 0, 2*len(marker))
	for i := range len(marker) {
		utf16 = append(utf16, marker[i], 0)
	}
	list = append(list, []byte(marker), []byte(strings.ToLower(marker)), utf16, []byte(hex.EncodeToString([]byte(marker))))
	for skip := range 3 { // base64, whatever was before it
		in := base64.StdEncoding.EncodeToString(append(make([]byte, skip), marker...))
		list = append(list, []byte(in[4:len(in)-4]))
	}
	return list
}

func holds(b []byte, marker string) bool {
	for _, form := range forms(marker) {
		if bytes.Contains(b, form) {
			return true
		}
	}
	return false
}

// lies is the files below a folder that hold the marker, as it is or behind a compression.
func lies(t testing.TB, dir, marker string) (in []string) {
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := holds(b, marker)
		for at := 0; at+2 < len(b) && !found; at++ {
			var r io.Reader
			if b[at] == 0x78 && (b[at+1] == 0x01 || b[at+1] == 0x9c || b[at+1] == 0xda) {
				r, _ = zlib.NewReader(bytes.NewReader(b[at:]))
			} else if b[at] == 0x1f && b[at+1] == 0x8b && b[at+2] == 8 && at+10 < len(b) {
				r = flate.NewReader(bytes.NewReader(b[at+10:]))
			}
			if r != nil {
				plain, _ := io.ReadAll(io.LimitReader(r, 1<<20))
				found = holds(plain, marker)
			}
		}
		if found {
			in = append(in, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

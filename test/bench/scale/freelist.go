package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// freelistTable measures how bbolt's ways to keep its free pages behave under what the index does to it: three keys a
// message, then transactions that put and delete here and there.
func freelistTable(dir string, messages int) error {
	header(fmt.Sprintf("bbolt with the keys of %d messages: free list in the file or not, in memory as map or array", messages),
		"free list", "transaction of 3,000 changes", "open", "file")
	for _, o := range []struct {
		name string
		opts bbolt.Options
	}{
		{"in the file, map (ours)", bbolt.Options{FreelistType: bbolt.FreelistMapType}},
		{"in the file, array", bbolt.Options{FreelistType: bbolt.FreelistArrayType}},
		{"not in the file, map", bbolt.Options{FreelistType: bbolt.FreelistMapType, NoFreelistSync: true}},
	} {
		if err := freelistRow(filepath.Join(dir, "bolt"), o.name, o.opts, messages); err != nil {
			return err
		}
	}
	return nil
}

func freelistRow(path, name string, opts bbolt.Options, messages int) error {
	opts.InitialMmapSize = 4 << 30
	db, err := bbolt.Open(path, 0o600, &opts)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }() // so is the folder
	bucket, value := []byte("kv"), make([]byte, 80)
	key := func(kind byte, n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{kind}, n) }
	next := 0
	put := func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		for i := 0; i < 10_000 && next < messages && err == nil; i++ {
			for _, kind := range []byte("EKB") {
				if err == nil {
					err = b.Put(key(kind, uint64(next)), value)
				}
			}
			next++
		}
		return err
	}
	for next < messages {
		if err := db.Update(put); err != nil {
			return err
		}
	}
	step := uint64(0)
	change := func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		for range 1000 {
			step++
			n := step * 7919 % uint64(messages)
			for _, kind := range []byte("EKB") {
				if step%3 == 0 {
					err = b.Delete(key(kind, n))
				} else {
					err = b.Put(key(kind, n), value)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
	c, err := measure(30, func() error { return db.Update(change) })
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	begin := time.Now()
	if db, err = bbolt.Open(path, 0o600, &opts); err != nil {
		return err
	}
	opened := time.Since(begin)
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	row(name, c, short(opened), fmt.Sprintf("%d MiB", st.Size()>>20))
	return db.Close()
}

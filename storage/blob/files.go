package blob

import (
	"errors"
	"sync"

	"cmmpd/internal/durable"
)

// maxOpen is how many segments are kept open for reading when nobody reads them.
const maxOpen = 24

// fileCache keeps segments open for reading.
type fileCache struct {
	mu    sync.Mutex
	files map[uint32]*cached
	clock uint64
}

type cached struct {
	file    durable.File
	readers int
	used    uint64
	gone    bool // no longer in files: the last reader closes it
}

// get returns the open file; put must be called afterwards.
func (c *fileCache) get(number uint32, open func() (durable.File, error)) (*cached, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	if f := c.files[number]; f != nil {
		f.readers++
		f.used = c.clock
		return f, nil
	}
	file, err := open()
	if err != nil {
		return nil, err
	}
	if c.files == nil {
		c.files = make(map[uint32]*cached)
	}
	if len(c.files) >= maxOpen {
		c.evict()
	}
	f := &cached{file: file, readers: 1, used: c.clock}
	c.files[number] = f
	return f, nil
}

func (c *fileCache) put(f *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.readers--; f.readers == 0 && f.gone {
		_ = f.file.Close() // it was only read
	}
}

// forget closes the file when nobody reads it any more: only then is the space of a removed one free.
func (c *fileCache) forget(number uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[number]
	if f == nil {
		return
	}
	delete(c.files, number)
	if f.gone = true; f.readers == 0 {
		_ = f.file.Close()
	}
}

// evict closes the file that was not read for the longest time, if any is idle.
func (c *fileCache) evict() {
	var oldest *cached
	var number uint32
	for n, f := range c.files {
		if f.readers == 0 && (oldest == nil || f.used < oldest.used) {
			oldest, number = f, n
		}
	}
	if oldest != nil {
		_ = oldest.file.Close() // it was only read
		delete(c.files, number)
	}
}

func (c *fileCache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for _, f := range c.files {
		err = errors.Join(err, f.file.Close())
	}
	c.files = nil
	return err
}

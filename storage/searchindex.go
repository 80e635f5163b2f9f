package storage

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
	"cmmpd/storage/search"
)

// SearchOptions say how the search index is kept. The zero value is the default.
type SearchOptions struct {
	Off    bool          // there is no index: every search looks into the messages
	Least  int           // so many messages of a mailbox that are not indexed are worth it; 256
	Batch  int           // a new file holds no more messages than this; 4,096
	Memory int           // nor is more memory used to make it than about this; 32 MiB
	Rest   time.Duration // how long the indexer lets alone a mailbox that was just opened; 1 second
}

// DefaultSearch is the default.
func DefaultSearch() SearchOptions {
	var o SearchOptions
	o.setDefaults()
	return o
}

func (o *SearchOptions) setDefaults() {
	if o.Least <= 0 {
		o.Least = 256
	}
	if o.Batch <= 0 || o.Batch > search.MaxDocs {
		o.Batch = 4096
	}
	if o.Memory <= 0 {
		o.Memory = 32 << 20
	}
	if o.Rest <= 0 {
		o.Rest = time.Second
	}
}

// searchIndex is the search index of an account: which files there are is in memory while the account is open, nothing
// else. It is derived from the messages: what is missing or damaged is made again, and until then messages are looked into.
type searchIndex struct {
	mu     sync.Mutex // guards what follows; held while the directory is read and files are opened
	loaded bool
	files  []*searchFile   // ascending by number
	last   uint32          // the number given last
	making map[uint32]bool // the numbers of files that are being written

	adding *semaphore.Weighted // held by a search while it adds messages, and by the background for a few at a time

	untidy atomic.Bool  // files may have to be merged
	gone   atomic.Int64 // messages expunged since the files were last looked through for them
	due    atomic.Int64 // when they are to be looked through again, if any were expunged, in Unix seconds
	failed atomic.Int64 // when a file could not be written, in Unix seconds
}

// isDue says whether the files are to be merged, or looked through for what was expunged.
func (x *searchIndex) isDue(now func() time.Time) bool {
	n := x.gone.Load()
	return x.untidy.Load() || n >= mergeLeast || n > 0 && now().Unix() >= x.due.Load()
}

// forget drops what was opened with the account's keys.
func (x *searchIndex) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.loaded, x.files = false, nil
}

// load finds out which files there are, and removes what a crash has left and what cannot be used. x.mu is held.
func (x *searchIndex) load(a *account) error {
	if x.loaded {
		return nil
	}
	s, number := a.store, a.no()
	names, err := s.o.FS.List(s.searchPath(number))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	x.files = nil
	for _, name := range names {
		n, ok := searchNumber(strings.TrimSuffix(name, durable.TempSuffix))
		if !ok {
			continue
		}
		x.last = max(x.last, n)
		if strings.HasSuffix(name, durable.TempSuffix) {
			if !x.making[n] {
				a.removeSearch(filepath.Join(s.searchPath(number), name), nil)
			}
			continue
		}
		f, err := s.readSearchFile(number, name)
		if err == nil && f.rules != search.Rules {
			err = errors.New("it was made under other rules")
		}
		if err != nil {
			if mail.KindOf(damaged(err)) == mail.Unavailable {
				return err
			}
			a.removeSearch(filepath.Join(s.searchPath(number), name), err)
			continue
		}
		x.files = append(x.files, f)
	}
	for _, f := range slices.Clone(x.files) {
		for _, n := range f.replaces {
			x.remove(a, n, nil)
		}
	}
	x.loaded = true
	return nil
}

// remove takes a file out of the index. x.mu is held.
func (x *searchIndex) remove(a *account, number uint32, why error) {
	for i, f := range x.files {
		if f.number == number {
			x.files = slices.Delete(x.files, i, i+1)
			a.removeSearch(f.name, why)
			return
		}
	}
}

// removeSearch removes a file of the search index; what it held is looked for in the messages until it is indexed again.
func (a *account) removeSearch(name string, why error) {
	if why != nil {
		a.store.o.Log.Warn("a file of the search index is made again", "file", name, "error", why)
	}
	if err := a.store.o.FS.Remove(name); err != nil {
		a.store.o.Log.Warn("a file of the search index cannot be removed", "file", name, "error", err)
	}
}

// open opens all files; closeSearch must follow. Those that are damaged leave the index.
func (x *searchIndex) open(a *account) ([]*openedSearch, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.load(a); err != nil {
		return nil, err
	}
	var list []*openedSearch
	for _, f := range slices.Clone(x.files) {
		o, err := a.openSearchFile(f)
		switch {
		case err == nil:
			list = append(list, o)
		case mail.KindOf(err) == mail.Denied, mail.KindOf(damaged(err)) == mail.Unavailable:
			closeSearch(list)
			return nil, err
		default:
			x.remove(a, f.number, err)
		}
	}
	return list, nil
}

// drop takes a file that turned out to be damaged out of the index.
func (x *searchIndex) drop(a *account, f *searchFile, why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(a, f.number, why)
}

// nextNumber gives out the number of a file, whose making ends with put.
func (x *searchIndex) nextNumber(a *account) (uint32, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.last == 0 { // else the directory was read before
		if err := x.load(a); err != nil {
			return 0, err
		}
	}
	x.last++
	if x.making == nil {
		x.making = make(map[uint32]bool)
	}
	x.making[x.last] = true
	return x.last, nil
}

// put adds the file of that number, in place of those that it replaces; f is nil if it could not be made.
func (x *searchIndex) put(a *account, number uint32, f *searchFile) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.making, number)
	if f == nil {
		return
	}
	if len(f.replaces) == 0 { // else it is tidying that made it
		x.untidy.Store(true)
	}
	if x.loaded {
		x.files = append(x.files, f)
	}
	for _, n := range f.replaces {
		x.remove(a, n, nil)
	}
}

// located says where the index has a message.
type located struct {
	file int32 // -1: nowhere
	doc  int32
}

// places finds messages, by their bodies, in opened files.
func places(list []*openedSearch, bodies []uint64) []located {
	found := make([]located, len(bodies))
	for i := range found {
		found[i].file = -1
	}
	ascending := slices.IsSorted(bodies)
	for k, o := range list {
		docs := o.Docs()
		if len(docs) == 0 {
			continue
		}
		first, last := docs[0].ID, docs[len(docs)-1].ID
		from, to := 0, len(bodies)
		if ascending { // as they mostly are; then few files are looked into for each
			from, _ = slices.BinarySearch(bodies, first)
			to, _ = slices.BinarySearch(bodies, last+1)
		}
		at := 0
		for i := from; i < to; i++ {
			body := bodies[i]
			if found[i].file >= 0 || body < first || body > last {
				continue
			}
			if at = seek(docs, at, body); docs[at].ID == body {
				found[i] = located{int32(k), int32(at)}
			}
		}
	}
	return found
}

// seek is the place of the first message whose ID is not less than id; there must be one. Mostly it is at, or a little after that.
func seek(docs []search.Doc, at int, id uint64) int {
	for range 4 {
		if docs[at].ID >= id {
			if at == 0 || docs[at-1].ID < id {
				return at
			}
			break
		}
		at++
	}
	return sort.Search(len(docs), func(i int) bool { return docs[i].ID >= id })
}

// TextKey is a question about the text of messages.
type TextKey struct {
	Fields search.Fields
	Needle []byte // folded
	// Loose says that a message with the needle in the fields is a candidate only.
	Loose bool
}

// Found is what the search index knows of messages, each named by its place in the list that was asked about.
type Found struct {
	verdicts [][]search.Verdict // by key; nil: nothing is known
	flags    []uint8
}

const (
	foundIndexed = 1 << iota
	foundEncrypted
)

// Verdict is what is known of a key and a message.
func (f *Found) Verdict(key, i int) search.Verdict {
	if f.verdicts[key] == nil {
		return search.Perhaps
	}
	return f.verdicts[key][i]
}

// Encrypted says whether a message is encrypted from end to end; known, whether the index has it.
func (f *Found) Encrypted(i int) (encrypted, known bool) {
	if f.flags == nil {
		return false, false
	}
	return f.flags[i]&foundEncrypted != 0, f.flags[i]&foundIndexed != 0
}

// few is how many messages are rather looked into than looked up.
const few = 32

// Find asks the search index about messages of the mailbox, given by UID in ascending order. With read, those that are not
// indexed are indexed first, if they are many: reading them all is the work of a search anyway. Whatever goes wrong
// with the index, the messages can be looked into; the error is for what ended the search.
func (m *Mailbox) Find(ctx context.Context, uids []uint32, keys []TextKey, read bool) (*Found, error) {
	f := &Found{verdicts: make([][]search.Verdict, len(keys))}
	s, a := m.m.store, m.m.account
	if s.o.Search.Off || len(uids) <= few || len(keys) == 0 {
		return f, nil
	}
	bodies := m.m.bodies(uids)
	list, where, err := a.lookUp(bodies)
	if err == nil && read && missing(where) >= s.o.Search.Least {
		closeSearch(list)
		if err := m.index(ctx, uids, nil); err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		list, where, err = a.lookUp(bodies)
	}
	defer func() { closeSearch(list) }()
	if err != nil {
		s.o.Log.Warn("the search index cannot be used", "error", err)
		return f, nil
	}
	f.answer(a, list, where, keys)
	return f, ctx.Err()
}

// lookUp opens the index and finds the messages with these bodies in it. closeSearch must follow.
func (a *account) lookUp(bodies []uint64) ([]*openedSearch, []located, error) {
	list, err := a.search.open(a)
	if err != nil {
		return nil, nil, err
	}
	return list, places(list, bodies), nil
}

func missing(where []located) int {
	n := 0
	for _, p := range where {
		if p.file < 0 {
			n++
		}
	}
	return n
}

// answer fills in the verdicts.
func (f *Found) answer(a *account, list []*openedSearch, where []located, keys []TextKey) {
	var queries []search.Query
	of := make([]int, len(keys)) // the key's place in queries, plus one
	for i, k := range keys {
		if q, ok := search.NewQuery(k.Fields, k.Needle); ok {
			q.Exact = q.Exact && !k.Loose
			queries = append(queries, q)
			of[i] = len(queries)
			f.verdicts[i] = slices.Repeat([]search.Verdict{search.Perhaps}, len(where))
		}
	}
	sets := a.findIn(list, where, queries)
	f.flags = make([]uint8, len(where))
	for i, p := range where {
		if p.file < 0 || sets[p.file] == nil {
			continue
		}
		doc := list[p.file].Docs()[p.doc]
		f.flags[i] = foundIndexed
		if doc.Encrypted {
			f.flags[i] |= foundEncrypted
		}
		if doc.Partial {
			continue
		}
		for k := range keys {
			if of[k] == 0 {
				continue
			}
			v := search.No
			if sets[p.file][of[k]-1].Has(int(p.doc)) {
				if v = search.Perhaps; queries[of[k]-1].Exact {
					v = search.Yes
				}
			}
			f.verdicts[k][i] = v
		}
	}
}

// findIn asks the files that messages are in, on all processors. Of a file that is damaged the answer is nil.
func (a *account) findIn(list []*openedSearch, where []located, queries []search.Query) [][]search.Set {
	sets := make([][]search.Set, len(list))
	if len(queries) == 0 {
		return sets
	}
	used := make([]bool, len(list))
	for _, p := range where {
		if p.file >= 0 {
			used[p.file] = true
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxWorkers, len(list)) {
		wg.Go(func() {
			for k := int(next.Add(1) - 1); k < len(list); k = int(next.Add(1) - 1) {
				if !used[k] {
					continue
				}
				found, err := list[k].Find(queries)
				if err != nil {
					a.search.drop(a, list[k].file, err)
					continue
				}
				sets[k] = found
			}
		})
	}
	wg.Wait()
	return sets
}

// bodies is the bodies of messages, 0 of those that are not there.
func (m *mailbox) bodies(uids []uint32) []uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]uint64, len(uids))
	at := 0
	for i, uid := range uids {
		if at >= len(m.msgs) || m.msgs[at].uid != uid {
			at = m.at(uid)
		}
		if at < len(m.msgs) && m.msgs[at].uid == uid {
			list[i] = m.msgs[at].body
			at++
		}
	}
	return list
}

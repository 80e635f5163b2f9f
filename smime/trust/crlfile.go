package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// lists holds the revocation lists of the configured files. A file is read again when
// its size or date changes; when that fails the last good list stays in use until it
// is too old by its own dates.
type lists struct {
	paths   []string
	every   time.Duration // how long what was seen counts
	log     *slog.Logger
	answers *answers

	mu      sync.Mutex
	looked  time.Time                 // last, by the system's clock; guarded by mu
	files   map[string]*listFile      // by path, guarded by mu
	index   map[string][]*revocations // by issuer, newest first; the slices never change; guarded by mu
	failed  map[string]string         // the complaint last logged for a path, guarded by mu
	skipped map[string]bool           // what is in the folders and is no file, guarded by mu
}

// listFile is one file as last seen.
type listFile struct {
	size    int64
	changed time.Time
	lists   []*revocations
}

// is says whether st is that of f as last seen.
func (f *listFile) is(st fs.FileInfo) bool {
	return f != nil && st.Mode().IsRegular() && f.size == st.Size() && f.changed.Equal(st.ModTime())
}

func openLists(paths []string, every time.Duration, log *slog.Logger, a *answers) (*lists, error) {
	l := &lists{paths: paths, every: every, log: log, answers: a, files: map[string]*listFile{}, failed: map[string]string{}}
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("revocation list: %w", err)
		}
	}
	for _, p := range l.expand() {
		if _, err := l.load(p); err != nil {
			return nil, fmt.Errorf("revocation list %s: %w", p, err)
		}
	}
	l.reindex()
	return l, nil
}

// expand turns folders into the files in them. The caller holds mu, or is alone.
func (l *lists) expand() []string {
	var out []string
	skipped := map[string]bool{}
	for _, p := range l.paths {
		if st, err := os.Stat(p); err == nil && !st.IsDir() {
			out = append(out, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil { // it has gone: load says so
			out = append(out, p)
			continue
		}
		for _, e := range entries {
			switch path := filepath.Join(p, e.Name()); {
			case e.Name()[0] == '.', e.IsDir():
			case e.Type().IsRegular():
				out = append(out, path)
			default:
				l.passOver(path, e.Type())
				skipped[path] = true
			}
		}
	}
	l.skipped = skipped
	return out
}

// passOver says once of what lies in a folder that it is no file, and is not read: a symbolic link may lead anywhere.
func (l *lists) passOver(path string, t fs.FileMode) {
	if !l.skipped[path] {
		l.log.Warn("in a folder of revocation lists, and not read: it is no regular file", "path", path, "type", t.String())
	}
}

// unread is how many things in the configured places cannot be read, or are passed over.
func (l *lists) unread() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed) + len(l.skipped)
}

// refresh reads what has changed since, unless it has just looked.
func (l *lists) refresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.looked) < l.every {
		return
	}
	l.looked = now
	anew := false
	present := l.expand()
	maps.DeleteFunc(l.failed, func(p, _ string) bool { return !slices.Contains(present, p) })
	for _, p := range present {
		changed, err := l.load(p)
		anew = anew || changed
		switch {
		case err == nil:
			delete(l.failed, p)
		case l.failed[p] != err.Error():
			l.failed[p] = err.Error()
			l.log.Error("a revocation list cannot be read; the last good one stays in use", "file", p, "error", err)
		}
	}
	if len(l.files) > len(present) && l.forget(present) || anew {
		l.reindex()
	}
}

// forget drops files that have gone, once there are newer lists for all that they hold: an
// authority's lists may come under a new name each time. The caller holds mu.
func (l *lists) forget(present []string) (changed bool) {
	newest := map[string]*revocations{}
	for _, p := range present {
		if f := l.files[p]; f != nil {
			for _, r := range f.lists {
				if old := newest[r.kind()]; old == nil || newer(r, old) < 0 {
					newest[r.kind()] = r
				}
			}
		}
	}
	for p, f := range l.files {
		needed := func(r *revocations) bool { return newest[r.kind()] == nil || newer(newest[r.kind()], r) > 0 }
		if !slices.Contains(present, p) && !slices.ContainsFunc(f.lists, needed) {
			delete(l.files, p)
			delete(l.failed, p)
			changed = true
		}
	}
	return changed
}

// load reads one file unless it is unchanged. The caller holds mu, or is alone.
func (l *lists) load(path string) (changed bool, err error) {
	old := l.files[path]
	if st, err := os.Stat(path); err == nil && old.is(st) {
		return false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !st.Mode().IsRegular() {
		return false, fs.ErrInvalid
	}
	if old.is(st) {
		return false, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxListBytes+1))
	if err != nil {
		return false, err
	}
	if len(b) > maxListBytes {
		return false, errors.New("larger than 64 MiB")
	}
	parsed, err := parseLists(b, filepath.Base(path))
	if err != nil {
		return false, err
	}
	l.files[path] = &listFile{size: st.Size(), changed: st.ModTime(), lists: parsed}
	return true, nil
}

// reindex sorts what there is by issuer. The caller holds mu, or is alone.
func (l *lists) reindex() {
	l.index = map[string][]*revocations{}
	for _, f := range l.files {
		for _, r := range f.lists {
			l.index[r.issuerKey] = append(l.index[r.issuerKey], r)
		}
	}
	for _, rs := range l.index {
		slices.SortStableFunc(rs, newer)
	}
	l.answers.changed()
}

// of returns the lists of the issuer whose name has this key, newest first.
func (l *lists) of(issuer string) []*revocations {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index[issuer]
}

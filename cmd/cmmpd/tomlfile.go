package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlFile is a configuration file that remembers on which line each key stands, so
// that every complaint can name file, line and reason.
type tomlFile struct {
	path string
	dir  string         // relative paths in the file resolve against it
	line map[string]int // dotted key to line, from 1; array tables as key[0].key
	errs []error
}

// readTOML decodes the file at path into v, strictly: an unknown key is an error.
func readTOML(path string, v any) (*tomlFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &tomlFile{path: path, dir: filepath.Dir(abs)}
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return nil, f.decodeError(err)
	}
	f.line = keyLines(data)
	return f, nil
}

// decodeError gives go-toml's errors our shape.
func (f *tomlFile) decodeError(err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) {
		var errs []error
		for i := range missing.Errors {
			e := &missing.Errors[i]
			row, _ := e.Position()
			errs = append(errs, fmt.Errorf("%s:%d: unknown key %q", f.path, row, strings.Join(e.Key(), ".")))
		}
		return errors.Join(errs...)
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		row, _ := de.Position()
		reason := strings.TrimPrefix(de.Error(), "toml: ")
		if key := strings.Join(de.Key(), "."); key != "" {
			reason = key + ": " + reason
		}
		return fmt.Errorf("%s:%d: %s", f.path, row, reason)
	}
	return fmt.Errorf("%s: %w", f.path, err)
}

// keyLines maps each dotted key to the line it stands on.
func keyLines(data []byte) map[string]int {
	lines := make(map[string]int)
	var p unstable.Parser
	p.Reset(data)
	prefix := ""
	count := make(map[string]int)
	for p.NextExpression() {
		e := p.Expression()
		key, line := "", 0
		for it := e.Key(); it.Next(); {
			n := it.Node()
			if line == 0 {
				line = 1 + bytes.Count(data[:n.Raw.Offset], []byte("\n"))
			}
			key = joinKey(key, string(n.Data))
		}
		switch e.Kind {
		case unstable.Table:
			prefix = key
		case unstable.ArrayTable:
			prefix = fmt.Sprintf("%s[%d]", key, count[key])
			count[key]++
			key = prefix
		case unstable.KeyValue:
			key = joinKey(prefix, key)
		}
		lines[key] = line
	}
	return lines
}

func joinKey(a, b string) string {
	if a == "" {
		return b
	}
	return a + "." + b
}

// bad notes that the value of key is wrong.
func (f *tomlFile) bad(key, format string, args ...any) {
	where := f.path
	for k := key; k != ""; k = k[:max(0, strings.LastIndexByte(k, '.'))] {
		if n := f.line[k]; n > 0 {
			where = fmt.Sprintf("%s:%d", f.path, n)
			break
		}
	}
	f.errs = append(f.errs, fmt.Errorf("%s: %s: %s", where, key, fmt.Sprintf(format, args...)))
}

// err is everything that was noted, or nil.
func (f *tomlFile) err() error { return errors.Join(f.errs...) }

// file resolves a path of the configuration against the file's folder and demands that
// it can be read.
func (f *tomlFile) file(key string, path *string) {
	f.resolve(key, path)
	if *path == "" {
		return
	}
	r, err := os.Open(*path)
	if err != nil {
		f.bad(key, "%v", err)
		return
	}
	r.Close()
}

// resolve resolves a path against the file's folder without asking whether it is there.
func (f *tomlFile) resolve(key string, path *string) {
	if *path == "" {
		f.bad(key, "must not be empty")
		return
	}
	if !filepath.IsAbs(*path) {
		*path = filepath.Join(f.dir, *path)
	}
}

// duration is a time span written as Go writes it, "90s" or "24h".
type duration time.Duration

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a time span such as \"90s\" or \"24h\"", b)
	}
	if v <= 0 {
		return fmt.Errorf("the time span %q must be above zero", b)
	}
	*d = duration(v)
	return nil
}

// size is a number of octets, written "50MiB", "64KiB" or "1000".
type size int64

func (s *size) UnmarshalText(b []byte) error {
	var n int64
	var unit string
	text := string(b)
	if _, err := fmt.Sscanf(text+" ", "%d%s", &n, &unit); err != nil && unit != "" {
		return fmt.Errorf("%q is not a size such as \"50MiB\"", text)
	}
	mul, ok := map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
	if !ok || n <= 0 || n > 1<<40 || fmt.Sprintf("%d%s", n, unit) != text {
		return fmt.Errorf("%q is not a size such as \"50MiB\"", text)
	}
	*s = size(n * mul)
	return nil
}

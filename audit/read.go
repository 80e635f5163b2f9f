package audit

import (
	"errors"
	"fmt"
	"io/fs"
)

// Read returns some of the records from number from on, in order: at least one, if there is one that is durable, and as
// many as lie together with it. It may be called by several goroutines, and holds up no writer.
func (l *Log) Read(from int64) ([]Record, error) {
	for try := 0; ; try++ {
		size := l.Size()
		if from < 0 || from >= size {
			return nil, nil
		}
		n := from >> tileHeight
		name := tileName(fileOf(entries, n, size))
		data, err := l.store.root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && try < 100 {
			continue // the log has grown, and the file has another name
		}
		if err != nil {
			return nil, faultOf(name, err)
		}
		return readBundle(name, data, n<<tileHeight, from, size)
	}
}

// readBundle decodes the records of an entry bundle that begins with number first, from number from on.
func readBundle(name string, data []byte, first, from, size int64) ([]Record, error) {
	var out []Record
	var scratch []byte
	for seq := first; seq < min(first+tileWidth, size); seq++ {
		raw, rest, ok := cutEntry(data)
		if !ok {
			return nil, &Fault{name, seq, "the file ends within this record"}
		}
		if data = rest; seq < from {
			continue
		}
		r, used, err := decodeRecord(raw, scratch)
		scratch = used
		if err == nil && r.Seq != seq {
			err = fmt.Errorf("carries the number %d", r.Seq)
		}
		if err != nil {
			return nil, &Fault{name, seq, err.Error()}
		}
		out = append(out, r)
	}
	return out, nil
}

// Shown is the record with the values that the table still has; names may be nil.
func (r *Record) Shown(names Names) (Record, error) { return r.revealed(names) }

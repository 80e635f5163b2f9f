package queue

import "bufio"

// dotWriter writes a message as it goes after DATA (RFC 5321, section 4.5.2). Whatever line ends come in, those that go
// out are CRLF: a bare CR or LF would be an end of data to some server (CVE-2023-51764).
type dotWriter struct {
	w   *bufio.Writer
	cr  bool // a CR came, which is not written yet
	mid bool // within a line
}

func (d *dotWriter) Write(b []byte) (int, error) {
	for i, c := range b {
		if err := d.put(c); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (d *dotWriter) put(c byte) error {
	if d.cr {
		d.cr = false
		if err := d.end(); err != nil || c == '\n' {
			return err
		}
	}
	switch c {
	case '\r':
		d.cr = true
		return nil
	case '\n':
		return d.end()
	case '.':
		if !d.mid {
			if err := d.w.WriteByte('.'); err != nil {
				return err
			}
		}
	}
	d.mid = true
	return d.w.WriteByte(c)
}

func (d *dotWriter) end() error {
	d.mid = false
	_, err := d.w.WriteString("\r\n")
	return err
}

// Close ends the message with its dot and flushes.
func (d *dotWriter) Close() error {
	if d.cr || d.mid {
		d.cr = false
		if err := d.end(); err != nil {
			return err
		}
	}
	if _, err := d.w.WriteString(".\r\n"); err != nil {
		return err
	}
	return d.w.Flush()
}

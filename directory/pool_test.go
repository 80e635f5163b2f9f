package directory

import (
	"context"
	"net"
	"testing"

	"cmmpd/internal/mail"
)

// TestAnswersAreBounded has a server that announces 2 GiB and sends without end.
func TestAnswersAreBounded(t *testing.T) {
	d, err := New(Options{BaseDN: "dc=x", Trusted: true, Dial: func(context.Context) (net.Conn, error) {
		c, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := far.Read(make([]byte, 4096)); err != nil {
				return
			}
			if _, err := far.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}); err != nil {
				return
			}
			for b := make([]byte, 1<<20); ; {
				if _, err := far.Write(b); err != nil {
					return
				}
			}
		}()
		return c, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.ByUID(context.Background(), "x"); mail.KindOf(err) != mail.Unavailable {
		t.Error(err)
	}
}

package directory

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

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

// TestSilentDirectory has a server that takes questions and never answers.
func TestSilentDirectory(t *testing.T) {
	asked := make(chan struct{}, 10)
	d, err := New(Options{
		BaseDN: "dc=x", Trusted: true, Limits: Limits{Timeout: 50 * time.Millisecond, Connections: 2},
		Dial: func(context.Context) (net.Conn, error) {
			asked <- struct{}{}
			c, far := net.Pipe()
			go func() {
				for b := make([]byte, 4096); ; {
					if _, err := far.Read(b); err != nil {
						return
					}
				}
			}()
			return c, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.ByUID(context.Background(), "x"); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("no answer: %v", err)
	}
	<-asked

	// As many connections as are allowed, and no more: the third question waits for one.
	d.searches.slots <- struct{}{}
	d.searches.slots <- struct{}{}
	if _, err := d.ByUID(context.Background(), "y"); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("no connection: %v", err)
	}
	if len(asked) != 0 {
		t.Error("a connection beyond the limit")
	}
}

func TestCacheIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := cache{ttl: time.Minute, max: 10, now: func() time.Time { return now }}
	for i := range 100 {
		c.put(fmt.Sprint(i), nil, 0)
	}
	if n := len(c.answers); n > 10 {
		t.Errorf("%d answers are remembered", n)
	}
	c.put("x", nil, 0)
	now = now.Add(2 * time.Minute)
	if _, ok, _ := c.get("x"); ok {
		t.Error("remembered for too long")
	}
}

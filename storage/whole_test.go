package storage

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"cmmpd/internal/message"
)

// A message read whole is what it is when read otherwise, whatever its size.
func TestWhole(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, searchStore(t))
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	head := len(testMessage("m", ""))
	for _, n := range []int{0, 10, headerInBody - head, headerInBody, frameSize - head - 1, frameSize - head, frameSize, 3*frameSize - head, wholeBytes - head, wholeBytes + 5} {
		data := testMessage("m", strings.Repeat("abcdefg", n/7+1)[:n])
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: alice, Prefix: []byte("Delivered-To: a\r\n")})}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, data := range []string{"", "no header\r\n"} {
		if _, err := a.Append(ctx, Inbox, []Append{{Data: []byte(data), Index: message.Parse([]byte(data), message.Limits{})}}); err != nil {
			t.Fatal(err)
		}
	}
	m := openBox(t, a, Inbox)
	uids := uidsOf(m)
	b, err := m.Batch(nil, uids, true)
	if err != nil {
		t.Fatal(err)
	}
	var buf []byte
	for i, uid := range uids {
		want, err := m.Summary(ctx, uid)
		if err != nil {
			t.Fatal(err)
		}
		var sum *Summary
		var data []byte
		if sum, data, buf, err = b.Whole(ctx, i, buf); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sum.Header, want.Header) || !bytes.Equal(sum.Prefix, want.Prefix) || sum.Index.Size != int64(len(data)) || !bytes.Equal(append(sum.Prefix, data...), readAll(t, m, uid)) {
			t.Errorf("UID %d with %d octets is another", uid, len(data))
		}
	}
}

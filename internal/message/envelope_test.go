package message

import (
	"testing"

	"cmmpd/internal/mail"
)

func FuzzDecodeEnvelope(f *testing.F) {
	for _, e := range []*Envelope{
		{},
		{
			Date: "now", Subject: `a "b" \ c`, From: []Address{{"é", "a", "x"}}, Sender: []Address{{"", "b", "y"}}, To: []Address{{"", "g", ""}, {}},
			InReplyTo: "<1@x>", MessageID: "<2@x>",
		},
	} {
		f.Add(PackEnvelope(nil, e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEnvelope(b)
		if err != nil {
			if mail.KindOf(err) != mail.Corrupt {
				t.Error(err)
			}
			return
		}
		if _, ok := UnpackEnvelope(nil, b); !ok {
			t.Error("it can be read, but not sent")
		}
		if _, err := DecodeEnvelope(PackEnvelope(nil, e)); err != nil {
			t.Errorf("%+v cannot be read again: %v", e, err)
		}
	})
}

package storage

import (
	"errors"
	"fmt"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// Summary is what FETCH needs of a message most of the time. The offsets of Index are those of the body without
// Prefix; the message as served is Prefix and then the body.
type Summary struct {
	Index  *message.Index
	Header []byte // the root header block as served, Prefix and the blank line included
	Prefix []byte

	summary summary
}

// AppendStructure appends the BODYSTRUCTURE as IMAP sends it.
func (s *Summary) AppendStructure(b []byte) []byte {
	if len(s.summary.structure) > 0 {
		return append(b, s.summary.structure...)
	}
	return message.AppendStructure(b, s.Index.Root, true)
}

// summary is a summary as it is kept, its parts still encoded.
type summary struct {
	envelope  []byte // packed; nil: in the index
	structure []byte // nil: make it from the index
	header    []byte // empty: it is where the body begins, if there is one
	index     []byte
}

// A summary of version 2 begins with these two octets: an empty header, which version 1 would have an index of version 1 after.
const summaryMark, summaryVersion = 0, 2

// headerInBody is up to which size of a body its header is not kept twice. It is no more than a frame.
const headerInBody = 16 << 10

// maxStructure is how long a BODYSTRUCTURE is kept at most. A longer one is made from the index.
const maxStructure = 64 << 10

func encodeSummary(data []byte, index *message.Index) ([]byte, error) {
	if index == nil || index.Root == nil || index.Size != int64(len(data)) || index.Root.HeaderStart != 0 ||
		index.Root.BodyStart < 0 || index.Root.BodyStart > int64(len(data)) || index.Root.Envelope == nil {
		return nil, mail.E(mail.Invalid, "", errors.New("the index is not that of the message"))
	}
	header := data[:index.Root.BodyStart]
	if len(data) <= headerInBody {
		header = nil
	}
	b := append(make([]byte, 0, len(header)+768), summaryMark, summaryVersion)
	part := make([]byte, 0, 512)
	b = appendBytes(b, message.PackEnvelope(part, index.Root.Envelope))
	structure := message.AppendStructure(part, index.Root, true)
	if len(structure) > maxStructure {
		structure = nil
	}
	b = appendBytes(b, structure)
	b = appendBytes(b, header)
	root := *index.Root // the envelope stands above
	root.Envelope = &message.Envelope{}
	return (&message.Index{Size: index.Size, Defects: index.Defects, Root: &root}).AppendBinary(b)
}

// decodeSummary takes a summary apart. The parts alias b.
func decodeSummary(b []byte) (s summary, err error) {
	d := decoder{b: b}
	if len(b) >= 2 && b[0] == summaryMark && b[1] != 1 {
		if b[1] != summaryVersion {
			return s, mail.E(mail.Unsupported, "", fmt.Errorf("a summary of version %d", b[1]))
		}
		d.take(2)
		s.envelope, s.structure = d.bytes(), d.bytes()
	}
	s.header = d.bytes()
	if d.bad {
		return s, errRecord
	}
	s.index = d.b
	return s, nil
}

// appendEnvelope appends the ENVELOPE as IMAP sends it.
func (s *summary) appendEnvelope(b []byte) ([]byte, error) {
	if s.envelope == nil {
		x, err := s.open()
		if err != nil {
			return b, err
		}
		return message.AppendEnvelope(b, x.Root.Envelope), nil
	}
	if b, ok := message.UnpackEnvelope(b, s.envelope); ok {
		return b, nil
	}
	return b, errRecord
}

// open reads the index.
func (s *summary) open() (*message.Index, error) {
	x, err := message.DecodeIndex(s.index)
	if err == nil && s.envelope != nil {
		x.Root.Envelope, err = message.DecodeEnvelope(s.envelope)
	}
	if err != nil {
		return nil, mail.E(mail.Corrupt, "the message is damaged", fmt.Errorf("message index: %w", err))
	}
	return x, nil
}

package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// page is the simple paged results control (RFC 2696) of one search. The cookie says
// where the last page ended, and is bound by a MAC to the connection, to who has bound,
// and to the search: the server keeps no state, and no cookie continues anything else.
//
//	cookie = last id (8) total (4) HMAC-SHA-256 (32)
type page struct {
	size  int
	last  uint64
	total int
	more  bool
	done  bool // size 0: the client gives the search up
	mac   func(last uint64, total int) []byte
}

const cookieLen = 8 + 4 + sha256.Size

var errCookie = errors.New("the cookie does not belong to this search")

// parsePage reads the control's value.
func parsePage(value []byte, mac func(last uint64, total int) []byte) (*page, error) {
	outer := parser{b: value}
	p := parser{b: outer.want(tagSequence), err: outer.err}
	pg := &page{size: p.integer(tagInteger), mac: mac}
	cookie := p.want(tagOctets)
	if err := errors.Join(p.end(), outer.end()); err != nil {
		return nil, errBER
	}
	if pg.done = pg.size == 0 && len(cookie) > 0; pg.done || len(cookie) == 0 {
		return pg, nil
	}
	if len(cookie) != cookieLen {
		return nil, errCookie
	}
	pg.last, pg.total = binary.BigEndian.Uint64(cookie), int(binary.BigEndian.Uint32(cookie[8:]))
	if !hmac.Equal(cookie[12:], mac(pg.last, pg.total)) {
		return nil, errCookie
	}
	return pg, nil
}

// cookieMAC makes the MAC of cookies of one search.
func cookieMAC(key []byte, who identity, req []byte) func(last uint64, total int) []byte {
	return func(last uint64, total int) []byte {
		h := hmac.New(sha256.New, key)
		sum := sha256.Sum256(req)
		h.Write(sum[:])
		h.Write(cookieHead(last, total))
		h.Write([]byte(who.key))
		return h.Sum(nil)
	}
}

func cookieHead(last uint64, total int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, last), uint32(total))
}

// appendResponse appends the response control.
func (pg *page) appendResponse(e *encoder, q *search) {
	c := e.open(tagSequence)
	e.text(tagOctets, oidPaged)
	v := e.open(tagOctets)
	s := e.open(tagSequence)
	e.integer(tagInteger, 0)
	var cookie []byte
	if pg.more {
		cookie = append(cookieHead(q.last, q.total), pg.mac(q.last, q.total)...)
	}
	e.octets(tagOctets, cookie)
	e.close(s)
	e.close(v)
	e.close(c)
}

package imap

import "cmmpd/imap/wire"

// cmdCheck is NOOP: the store needs no checkpoints (RFC 3501, section 6.4.1).
func cmdCheck(_ *session, p *wire.Parser) (string, error) { return "", p.End() }

package imap

import "cmmpd/imap/wire"

// cmdNoop does nothing; what is new in the mailbox is told after every command.
func cmdNoop(_ *session, p *wire.Parser) (string, error) { return "", p.End() }

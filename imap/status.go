package imap

import (
	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// statusItem is what STATUS can ask for (RFC 3501, section 6.3.10): a number, or with id an
// object's name in parentheses.
type statusItem struct {
	name  string
	value func(st *storage.Status) uint64
	id    func(st *storage.Status) string
	open  func(name string) (int64, error) // for what is not among the counters
}

func (s *session) statusItems() []statusItem {
	return []statusItem{
		{name: "MESSAGES", value: func(st *storage.Status) uint64 { return uint64(st.Messages) }},
		{name: "RECENT", value: func(st *storage.Status) uint64 { return uint64(st.Recent) }},
		{name: "UIDNEXT", value: func(st *storage.Status) uint64 { return uint64(st.UIDNext) }},
		{name: "UIDVALIDITY", value: func(st *storage.Status) uint64 { return uint64(st.UIDValidity) }},
		{name: "UNSEEN", value: func(st *storage.Status) uint64 { return uint64(st.Unseen) }},
		{name: "DELETED", value: func(st *storage.Status) uint64 { return uint64(st.Deleted) }},
		{name: "SIZE", value: func(st *storage.Status) uint64 { return uint64(st.Size) }},
		{name: "DELETED-STORAGE", open: s.deletedSize},
		{name: "HIGHESTMODSEQ", value: func(st *storage.Status) uint64 { return st.HighestModSeq }},
		{name: "APPENDLIMIT", value: func(*storage.Status) uint64 { return uint64(s.srv.o.Limits.MessageBytes) }},
		{name: "MAILBOXID", id: func(st *storage.Status) string { return st.MailboxID }},
	}
}

// cmdStatus answers from counters; the mailbox is not opened.
func cmdStatus(s *session, p *wire.Parser) (string, error) {
	name := mailboxName(p)
	p.SP()
	items := s.takeStatusItems(p)
	if err := p.End(); err != nil {
		return "", err
	}
	return "", s.status(name, items)
}

// status sends the items of one mailbox.
func (s *session) status(name string, items []statusItem) error {
	st, err := s.user.acct.Status(s.ctx, name)
	if err != nil {
		return err
	}
	for i := range items {
		if open := items[i].open; open != nil {
			n, err := open(name)
			if err != nil {
				return err
			}
			items[i].value = func(*storage.Status) uint64 { return uint64(n) }
		}
		if items[i].name == "HIGHESTMODSEQ" {
			s.enable(condstore)
			if err := s.user.acct.Settle(); err != nil {
				return err
			}
		}
	}
	s.sendStatus(name, items, &st)
	return nil
}

// takeStatusItems takes the list of items.
func (s *session) takeStatusItems(p *wire.Parser) []statusItem {
	known := s.statusItems()
	var items []statusItem
	p.List(func() {
		word := p.Word()
		for _, it := range known {
			if it.name == word {
				items = append(items, it)
				return
			}
		}
		p.Fail(&wire.Error{Text: "Unknown status item"})
	})
	if len(items) == 0 {
		p.Fail(&wire.Error{Text: "No status item is named"})
	}
	return items
}

func (s *session) sendStatus(name string, items []statusItem, st *storage.Status) {
	s.c.write("* STATUS ")
	b := append(s.appendMailbox(s.c.out, name), " ("...)
	for i, it := range items {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, it.name...), ' ')
		if it.id != nil {
			b = append(append(append(b, '('), it.id(st)...), ')')
			continue
		}
		b = wire.AppendNumber(b, it.value(st))
	}
	s.c.out = append(b, ')')
	s.c.end()
}

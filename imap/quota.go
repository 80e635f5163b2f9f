package imap

import (
	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// There is a quota root for each account, "", and where the account's department has a quota another one of its name,
// which all its accounts share. The resources are STORAGE and MESSAGE, each where there is a limit (RFC 9208).

// cmdGetQuota tells how much of a quota is used.
func cmdGetQuota(s *session, p *wire.Parser) (string, error) {
	root := p.AString()
	if err := p.End(); err != nil {
		return "", err
	}
	own, department, all, err := s.quotas()
	if err != nil {
		return "", err
	}
	switch {
	case root == "":
		s.sendQuota("", own)
	case root == department:
		s.sendQuota(root, all)
	default:
		return "", no(imap.ResponseCodeNonExistent, "No such quota root")
	}
	return "", nil
}

// cmdGetQuotaRoot tells which quotas hold for a mailbox: for all the same, but for that of deleted messages.
func cmdGetQuotaRoot(s *session, p *wire.Parser) (string, error) {
	name := mailboxName(p)
	if err := p.End(); err != nil {
		return "", err
	}
	st, err := s.user.acct.Status(s.ctx, name)
	if err != nil {
		return "", err
	}
	if st.Recoverable { // deleted messages count in none
		s.c.write("* QUOTAROOT ")
		s.c.out = s.appendMailbox(s.c.out, name)
		s.c.end()
		return "", nil
	}
	own, department, all, err := s.quotas()
	if err != nil {
		return "", err
	}
	s.c.write("* QUOTAROOT ")
	s.c.out = append(s.appendMailbox(s.c.out, name), ` ""`...)
	if department != "" {
		s.c.out = wire.AppendString(append(s.c.out, ' '), department)
	}
	s.c.end()
	s.sendQuota("", own)
	if department != "" {
		s.sendQuota(department, all)
	}
	return "", nil
}

// quotas are the user's own and that of their department, which is "" if it has none: then it is not told what it holds.
func (s *session) quotas() (own storage.Usage, department string, all storage.Usage, err error) {
	if own, err = s.user.acct.Usage(s.ctx); err != nil {
		return own, "", all, err
	}
	if department, all, err = s.user.acct.DepartmentUsage(s.ctx); all.Quota == (storage.Quota{}) {
		department = ""
	}
	return own, department, all, err
}

// quotaUnit is what STORAGE counts in (RFC 9208, section 5.1).
const quotaUnit = 1024

func (s *session) sendQuota(root string, u storage.Usage) {
	s.c.write("* QUOTA ")
	b := append(wire.AppendString(s.c.out, root), " ("...)
	sep := ""
	for _, r := range []struct {
		name        string
		used, limit int64
	}{
		{"STORAGE ", (u.Size + quotaUnit - 1) / quotaUnit, u.Quota.Octets / quotaUnit},
		{"MESSAGE ", u.Messages, u.Quota.Messages},
	} {
		if r.limit > 0 {
			b = wire.AppendNumber(append(append(b, sep...), r.name...), r.used)
			b = wire.AppendNumber(append(b, ' '), r.limit)
			sep = " "
		}
	}
	s.c.out = append(b, ')')
	s.c.end()
}

// deletedSize is how many octets an expunge of a mailbox would free.
func (s *session) deletedSize(name string) (int64, error) {
	m, err := s.user.acct.Open(s.ctx, name)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	return m.DeletedSize(), nil
}

package storage

// isKept says whether the mailbox is that of an account's deleted messages.
func (c *checker) isKept(key mailboxKey) bool {
	a := c.accounts[key.account]
	return a != nil && a.record.kept == key.mailbox
}

// recoverable takes the deleted messages out of the report's counts.
func (c *checker) recoverable() {
	for n, a := range c.accounts {
		if a.record.kept == 0 {
			continue
		}
		c.report.Mailboxes--
		m := c.mailboxes[mailboxKey{n, a.record.kept}]
		if m == nil {
			c.problem("account %s: there is no mailbox of deleted messages", a.id)
			continue
		}
		c.report.Recoverable += len(m.uids)
	}
	c.report.Entries -= c.report.Recoverable
	for body, n := range c.kept {
		if n == c.refs[body] {
			c.report.Bodies--
		}
	}
}

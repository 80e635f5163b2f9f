package storage

// usage is what an account holds, all its mailboxes together. A message that is in several of them counts in each.
type usage struct {
	messages, size uint64
	department     string // whose total it counts in; "": nobody has said yet
	told           int    // per cent of its quota that its owner was warned at, and that it has not fallen clearly below since
}

func (u usage) encode() []byte {
	b := appendUint(appendUint(nil, u.messages), u.size)
	if u.department == "" && u.told == 0 {
		return b
	}
	return appendUint(appendBytes(b, []byte(u.department)), uint64(u.told))
}

func decodeUsage(b []byte) (usage, error) {
	d := decoder{b: b}
	u := usage{messages: d.uint(), size: d.uint()}
	if len(d.b) > 0 {
		u.department, u.told = string(d.bytes()), d.percent()
		if u.department == "" && u.told == 0 {
			d.fail()
		}
	}
	return u, d.end()
}

func (d *decoder) percent() int {
	n := d.uint()
	if n > 100 {
		d.fail()
		return 0
	}
	return int(n)
}

func (u *usage) add(c counters) {
	u.messages += uint64(c.messages)
	u.size += uint64(c.size)
}

// usage is what an account held before this commit.
func (b *build) usage(account uint32) (usage, error) {
	v, err := b.get(keyOf(keyUsage, account))
	if err != nil {
		return usage{}, err
	}
	return decodeUsage(v)
}

// addUp adds up the mailboxes of an account, which must not change meanwhile.
func (s *Store) addUp(account uint32) (usage, error) {
	var u usage
	err := s.scan(keyOf(keyCounters, account), func(_, v []byte) error {
		c, err := decodeCounters(v)
		u.add(c)
		return err
	})
	return u, err
}

// DeletedSize is how many octets an expunge would free.
func (m *Mailbox) DeletedSize() int64 {
	m.m.mu.RLock()
	defer m.m.mu.RUnlock()
	var n int64
	for i := range m.m.msgs {
		if s := &m.m.msgs[i]; s.sys&sysDeleted != 0 {
			n += int64(s.size)
		}
	}
	return n
}

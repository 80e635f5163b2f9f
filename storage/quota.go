package storage

import (
	"context"
	"slices"

	"cmmpd/internal/mail"
)

// Quota is how much may be held; 0 is no limit.
type Quota struct{ Octets, Messages int64 }

// Quotas are those of all accounts and departments.
type Quotas struct {
	Account     Quota                      // of each account
	Department  Quota                      // of all accounts of a department together
	Departments map[string]DepartmentQuota // of those to which the two above do not apply
	Warn        []int                      // thresholds of warnings, in per cent of a quota
}

// DepartmentQuota is what one department and each of its accounts may hold.
type DepartmentQuota struct{ Account, Total Quota }

// of is the quota of an account in a department, and that of the department.
func (q *Quotas) of(department string) (account, total Quota) {
	if d, ok := q.Departments[department]; ok {
		return d.Account, d.Total
	}
	return q.Account, q.Department
}

// exceeded says whether so much is more than the quota, in what grows.
func (q Quota) exceeded(messages, size uint64, moreMessages, moreSize bool) bool {
	return moreSize && q.Octets > 0 && size > uint64(q.Octets) || moreMessages && q.Messages > 0 && messages > uint64(q.Messages)
}

// fallBelow is how many per cent of a quota below a threshold one must come to be warned of it again: whoever saves a draft anew every minute
// goes over it and back each time. Of a low threshold it is half.
const fallBelow = 5

// level is the highest threshold that so much has come to, 0 if none; with down, the highest that it has not fallen clearly below.
func (q *Quotas) level(u Usage, down bool) int {
	level := 0
	for _, w := range q.Warn {
		percent := float64(w)
		if down {
			percent -= min(fallBelow, percent/2)
		}
		reached := func(n, limit int64) bool { return limit > 0 && float64(n) >= float64(limit)*percent/100 }
		if w > level && (reached(u.Size, u.Quota.Octets) || reached(u.Messages, u.Quota.Messages)) {
			level = w
		}
	}
	return level
}

// Usage is what an account or a department holds, and what it may hold.
type Usage struct {
	Messages, Size int64
	Quota          Quota
}

// Warning says that an account, or if that is empty a department, has come to a threshold of its quota.
type Warning struct {
	Account    mail.AccountID
	Department string
	Percent    int // the threshold
	Usage      Usage
}

// total is what the accounts of a department hold together. There is no record of one that holds nothing.
type total struct {
	messages, size uint64
	told           int // as in usage
}

func (t total) encode() []byte {
	return appendUint(appendUint(appendUint(nil, t.messages), t.size), uint64(t.told))
}

func decodeTotal(b []byte) (total, error) {
	if b == nil {
		return total{}, nil
	}
	d := decoder{b: b}
	t := total{messages: d.uint(), size: d.uint(), told: d.percent()}
	if t.messages == 0 {
		d.fail()
	}
	return t, d.end()
}

func keyOfTotal(department string) []byte { return append(key0(keyTotal), department...) }

// FullError is the cause of an error of kind mail.OverQuota: the accounts that have no room for the act.
type FullError struct{ Accounts []mail.AccountID }

func (e *FullError) Error() string {
	s := "over quota:"
	for _, a := range e.Accounts {
		s += " " + string(a)
	}
	return s
}

func errOverQuota(accounts ...mail.AccountID) error {
	return mail.E(mail.OverQuota, "the mailbox is full", &FullError{accounts})
}

// join says of which department an account is.
type join struct {
	account    *account
	number     uint32
	department string
}

// join notes the department of an account; "" says nothing.
func (b *build) join(a *account, number uint32, department string) {
	if department != "" {
		b.joins = append(b.joins, join{a, number, department})
	}
}

// joined says whether the account is known to be of the department.
func (s *Store) joined(account uint32, department string) (bool, error) {
	if department == "" {
		return true, nil
	}
	v, err := s.kv.Get(keyOf(keyUsage, account))
	if err != nil {
		return false, err
	}
	u, err := decodeUsage(v)
	return u.department == department, err
}

// holding is an account that a commit concerns.
type holding struct {
	join
	before, after usage // of the mailboxes that are changed
}

// holdings are the accounts that the commit concerns.
func (b *build) holdings() []holding {
	var list []holding
	at := func(a *account, number uint32) *holding {
		i := slices.IndexFunc(list, func(h holding) bool { return h.number == number })
		if i < 0 {
			i = len(list)
			list = append(list, holding{join: join{account: a, number: number}})
		}
		return &list[i]
	}
	for _, x := range b.boxes {
		if !x.changed || x.recoverable {
			continue
		}
		h := at(x.account, x.key.account)
		h.before.add(x.before)
		if !x.destroyed {
			h.after.add(x.c)
		}
	}
	for _, j := range b.joins {
		at(j.account, j.number).department = j.department
	}
	return list
}

// keepUsage keeps the usage of the accounts that this commit concerns, and the totals of their departments. It refuses what makes an
// account or a department larger than its quota; what makes it smaller, or moves mail within it, is always good.
func (b *build) keepUsage() error {
	k := keeper{b: b, q: &b.store.o.Quotas}
	for _, h := range b.holdings() {
		if err := k.keep(h); err != nil {
			return err
		}
	}
	if w := b.tells; w != nil && w.Account == "" {
		if _, err := k.total(w.Department); err != nil {
			return err
		}
	}
	for _, t := range k.totals {
		if err := k.keepTotal(t); err != nil {
			return err
		}
	}
	if len(k.full) > 0 && b.tells == nil && !b.must {
		return errOverQuota(k.full...)
	}
	return nil
}

// keeper is one keepUsage.
type keeper struct {
	b      *build
	q      *Quotas
	totals []*changedTotal
	full   []mail.AccountID
}

type changedTotal struct {
	total
	department         string
	messages0, size0   uint64           // before
	growing            []mail.AccountID // those whose part grows
	moreMessages, more bool
}

func (k *keeper) keep(h holding) error {
	if h.before == h.after && h.department == "" && k.b.tells == nil {
		return nil
	}
	u, err := k.b.usage(h.number)
	if err != nil {
		return err
	}
	old := u
	u.messages += h.after.messages - h.before.messages
	u.size += h.after.size - h.before.size
	if h.department != "" {
		u.department = h.department
	}
	if u == old && k.b.tells == nil {
		return nil
	}
	of, _ := k.q.of(u.department)
	moreMessages, moreSize := h.after.messages > h.before.messages, h.after.size > h.before.size
	if of.exceeded(u.messages, u.size, moreMessages, moreSize) {
		k.full = append(k.full, h.account.id)
	}
	if err := k.count(h, old, u, moreMessages, moreSize); err != nil {
		return err
	}
	w := Warning{Account: h.account.id, Usage: Usage{int64(u.messages), int64(u.size), of}}
	if u.told, err = k.warn(w, u.told); err != nil {
		return err
	}
	k.b.put(keyOf(keyUsage, h.number), u.encode())
	return nil
}

// count takes an account's change over to the totals.
func (k *keeper) count(h holding, old, u usage, moreMessages, moreSize bool) error {
	if old.department != "" {
		t, err := k.total(old.department)
		if err != nil {
			return err
		}
		t.messages, t.size = t.messages-old.messages, t.size-old.size
	}
	if u.department == "" {
		return nil
	}
	t, err := k.total(u.department)
	if err != nil {
		return err
	}
	t.messages, t.size = t.messages+u.messages, t.size+u.size
	if moreMessages || moreSize {
		t.growing = append(t.growing, h.account.id)
		t.moreMessages, t.more = t.moreMessages || moreMessages, t.more || moreSize
	}
	return nil
}

func (k *keeper) total(department string) (*changedTotal, error) {
	for _, t := range k.totals {
		if t.department == department {
			return t, nil
		}
	}
	v, err := k.b.get(keyOfTotal(department))
	if err != nil {
		return nil, err
	}
	r, err := decodeTotal(v)
	t := &changedTotal{total: r, department: department, messages0: r.messages, size0: r.size}
	k.totals = append(k.totals, t)
	return t, err
}

func (k *keeper) keepTotal(t *changedTotal) error {
	_, of := k.q.of(t.department)
	if of.exceeded(t.messages, t.size, t.moreMessages && t.messages > t.messages0, t.more && t.size > t.size0) {
		for _, id := range t.growing {
			if !slices.Contains(k.full, id) {
				k.full = append(k.full, id)
			}
		}
	}
	w := Warning{Department: t.department, Usage: Usage{int64(t.messages), int64(t.size), of}}
	var err error
	if t.told, err = k.warn(w, t.told); err != nil {
		return err
	}
	if t.messages == 0 {
		k.b.delete(keyOfTotal(t.department))
	} else {
		k.b.put(keyOfTotal(t.department), t.total.encode())
	}
	return nil
}

// warn is what has been told from now on. What is due is asked for, until it is told.
func (k *keeper) warn(w Warning, told int) (int, error) {
	level := k.q.level(w.Usage, false)
	if t := k.b.tells; t != nil && t.Account == w.Account && t.Department == w.Department {
		if told >= t.Percent || level < t.Percent {
			return told, mail.E(mail.Exists, "", nil)
		}
		told = t.Percent
	}
	if level > told {
		w.Percent = level
		k.b.commit.warn = append(k.b.commit.warn, w)
	}
	return min(told, k.q.level(w.Usage, true)), nil
}

// Usage is what the account holds.
func (a *Account) Usage(context.Context) (Usage, error) {
	u, _, _, err := a.a.store.usageOf(a.a.no())
	return u, err
}

// DepartmentUsage is the account's department, and what all its accounts hold; "" if it is not known.
func (a *Account) DepartmentUsage(context.Context) (string, Usage, error) {
	_, department, total, err := a.a.store.usageOf(a.a.no())
	return department, total, err
}

func (s *Store) usageOf(account uint32) (own Usage, department string, all Usage, err error) {
	v, err := s.kv.Get(keyOf(keyUsage, account))
	if err != nil {
		return own, "", all, err
	}
	u, err := decodeUsage(v)
	if err != nil {
		return own, "", all, err
	}
	own, department = Usage{Messages: int64(u.messages), Size: int64(u.size)}, u.department
	own.Quota, all.Quota = s.o.Quotas.of(department)
	if department == "" {
		all.Quota = Quota{}
		return own, "", all, nil
	}
	if v, err = s.kv.Get(keyOfTotal(department)); err != nil {
		return own, "", all, err
	}
	t, err := decodeTotal(v)
	all.Messages, all.Size = int64(t.messages), int64(t.size)
	return own, department, all, err
}

// Room says whether an account can take a message of n octets: the error is of kind mail.OverQuota if not. Deliver decides; this is for
// saying so before a message is sent.
func (s *Store) Room(ctx context.Context, id mail.AccountID, n int64) error {
	if q := &s.o.Quotas; q.Account == (Quota{}) && q.Department == (Quota{}) && len(q.Departments) == 0 {
		return nil
	}
	a, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer s.release(a)
	if a.no() == 0 {
		return nil
	}
	own, _, all, err := s.usageOf(a.no())
	if err != nil {
		return err
	}
	for _, u := range []Usage{own, all} {
		if u.Quota.exceeded(uint64(u.Messages+1), uint64(u.Size+max(n, 1)), true, true) {
			return errOverQuota(id)
		}
	}
	return nil
}

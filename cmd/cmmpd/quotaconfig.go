package main

import (
	"fmt"
	"reflect"
	"slices"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// quotaConfig says how much mail accounts and departments may hold.
type quotaConfig struct {
	AccountSize        quota             `toml:"account-size" bounds:"none,1048576GiB"`
	AccountMessages    int64             `toml:"account-messages" bounds:"0,4000000000"`
	DepartmentSize     quota             `toml:"department-size" bounds:"none,1048576GiB"`
	DepartmentMessages int64             `toml:"department-messages" bounds:"0,4000000000000"`
	WarnAt             []int             `toml:"warn-at"`
	Departments        []departmentQuota `toml:"departments"`
}

// departmentQuota is what differs for one department. What is left out is as for all.
type departmentQuota struct {
	Domain          string `toml:"domain"`
	AccountSize     *quota `toml:"account-size"`
	AccountMessages *int64 `toml:"account-messages"`
	Size            *quota `toml:"size"`
	Messages        *int64 `toml:"messages"`
	WarnTo          string `toml:"warn-to"`

	warnTo mail.Address
}

func defaultQuota() quotaConfig { return quotaConfig{WarnAt: []int{80, 95}} }

const (
	maxQuota         = quota(1 << 60 >> 10) // 1048576 GiB
	maxQuotaMessages = 4_000_000_000_000
)

func (c *quotaConfig) check(f *tomlFile, local []string) {
	checkBounds(f, "quota", reflect.ValueOf(c).Elem())
	for i, w := range c.WarnAt {
		if w < 1 || w > 100 || i > 0 && w <= c.WarnAt[i-1] {
			f.bad("quota.warn-at", "thresholds are per cent from 1 to 100, each higher than the one before")
		}
	}
	seen := map[string]bool{}
	for i := range c.Departments {
		d := &c.Departments[i]
		key := fmt.Sprintf("quota.departments[%d]", i)
		a, err := mail.ParseAddress("postmaster@" + d.Domain)
		switch {
		case err != nil || !slices.Contains(local, a.Domain):
			f.bad(key, "%q is not one of domains.local", d.Domain)
		case seen[a.Domain]:
			f.bad(key, "%s is there already", d.Domain)
		}
		d.Domain, seen[a.Domain] = a.Domain, true
		for _, s := range []*quota{d.AccountSize, d.Size} {
			if s != nil && (*s < 0 || *s > maxQuota) {
				f.bad(key, "%v is not between none and %v", *s, maxQuota)
			}
		}
		for _, n := range []*int64{d.AccountMessages, d.Messages} {
			if n != nil && (*n < 0 || *n > maxQuotaMessages) {
				f.bad(key, "%d messages are not between 0 and %d", *n, int64(maxQuotaMessages))
			}
		}
		if d.WarnTo != "" {
			if d.warnTo, err = mail.ParseAddress(d.WarnTo); err != nil {
				f.bad(key+".warn-to", "%q is not an address", d.WarnTo)
			}
		}
	}
}

// quotas are what the store makes of it.
func (c *quotaConfig) quotas() storage.Quotas {
	q := storage.Quotas{
		Account:     storage.Quota{Octets: int64(c.AccountSize), Messages: c.AccountMessages},
		Department:  storage.Quota{Octets: int64(c.DepartmentSize), Messages: c.DepartmentMessages},
		Departments: make(map[string]storage.DepartmentQuota), Warn: c.WarnAt,
	}
	for _, d := range c.Departments {
		own := storage.DepartmentQuota{Account: q.Account, Total: q.Department}
		if d.AccountSize != nil {
			own.Account.Octets = int64(*d.AccountSize)
		}
		if d.AccountMessages != nil {
			own.Account.Messages = *d.AccountMessages
		}
		if d.Size != nil {
			own.Total.Octets = int64(*d.Size)
		}
		if d.Messages != nil {
			own.Total.Messages = *d.Messages
		}
		q.Departments[d.Domain] = own
	}
	return q
}

// warnTo is who hears that a department has come to a threshold of its quota; the zero Address if nobody does.
func (c *quotaConfig) warnTo(department string) mail.Address {
	for i := range c.Departments {
		if c.Departments[i].Domain == department {
			return c.Departments[i].warnTo
		}
	}
	return mail.Address{}
}

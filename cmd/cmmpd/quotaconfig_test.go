package main

import (
	"reflect"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// TestQuotasOfDepartments: what a department's table leaves out is as for all.
func TestQuotasOfDepartments(t *testing.T) {
	c, err := loadConfig(exampleDir(t, func(s string) string {
		s = strings.Replace(s, `account-size = "none"`, `account-size = "1GiB"`, 1)
		s = strings.Replace(s, "department-messages = 0", "department-messages = 5", 1)
		return s + "\n[[quota.departments]]\ndomain = \"Health.gov.example\"\naccount-messages = 7\nmessages = 0\nwarn-to = \"help@health.gov.example\"\n"
	}))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Quota.quotas()
	want := storage.Quotas{
		Account: storage.Quota{Octets: 1 << 30}, Department: storage.Quota{Messages: 5}, Warn: []int{80, 95},
		Departments: map[string]storage.DepartmentQuota{"health.gov.example": {Account: storage.Quota{Octets: 1 << 30, Messages: 7}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if a := c.Quota.warnTo("health.gov.example"); a != mail.MustParseAddress("help@health.gov.example") || !c.Quota.warnTo("works.gov.example").IsZero() {
		t.Errorf("%v", a)
	}
}

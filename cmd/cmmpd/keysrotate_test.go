package main

import (
	"testing"

	"cmmpd/internal/keys"
)

func TestNextPlatform(t *testing.T) {
	key := func(name string) keys.Info {
		return keys.Info{Name: name, Kind: keys.KindAES256, Retired: keys.IsRetired(name)}
	}
	for _, c := range []struct {
		list    []keys.Info
		current string
		under   map[string]int
		name    string
		made    bool
	}{
		{[]keys.Info{key("platform")}, "platform", nil, "platform-2", false},
		{nil, "platform", map[string]int{"platform": 3}, "platform-2", false}, // it is in another keystore
		{[]keys.Info{key("platform"), key("platform-2")}, "platform", map[string]int{"platform": 3}, "platform-2", true},
		{[]keys.Info{key("platform"), key("platform-2")}, "platform-2", map[string]int{"platform": 3}, "platform-3", false},
		{[]keys.Info{key("platform"), key("platform-10"), key("platform-9")}, "platform", nil, "platform-10", true},
		{[]keys.Info{key("retired 20260101T000000Z platform-3"), key("platform-2")}, "platform-2", nil, "platform-4", false},
		{[]keys.Info{key("retired 20260101T000000Z platform"), key("platform-2")}, "platform", map[string]int{"platform": 3}, "platform-2", true}, // an old vault came back
		{[]keys.Info{{Name: "platform-2", Kind: keys.KindP256}}, "platform", nil, "platform-3", false},
		{[]keys.Info{key("platform-02"), key("platform-1"), key("platform-x"), key("deposit")}, "platform", nil, "platform-2", false},
	} {
		if name, made := nextPlatform(c.list, c.current, c.under); name != c.name || made != c.made {
			t.Errorf("after %v, %s, %v: %s, %v; want %s, %v", c.list, c.current, c.under, name, made, c.name, c.made)
		}
	}
}

package main

import (
	"reflect"
	"testing"

	"cmmpd/directory"
	"cmmpd/directory/server"
	"cmmpd/imap"
	"cmmpd/internal/auth"
	"cmmpd/internal/message"
	"cmmpd/smtp"
)

// TestEveryLimitIsConfigured holds the configuration to what the rooms know: a limit
// that a room has and the configuration has not is zero here.
func TestEveryLimitIsConfigured(t *testing.T) {
	l := defaultLimits()
	for _, pair := range [][2]any{
		{l.smtp(), smtp.DefaultLimits()},
		{l.imap(), imap.DefaultLimits()},
		{l.ldap(), server.DefaultLimits()},
		{l.login(), auth.DefaultLimits()},
		{l.directory(), directory.DefaultLimits()},
		{l.message(), message.DefaultLimits()},
	} {
		if pair[0] != pair[1] {
			t.Errorf("the configuration's defaults give %T%+v, the room's own are %+v", pair[0], pair[0], pair[1])
		}
	}
}

// TestEveryLimitReachesItsRoom changes one value at a time.
func TestEveryLimitReachesItsRoom(t *testing.T) {
	rooms := func(l *limitsConfig) []any {
		return []any{l.smtp(), l.imap(), l.ldap(), l.login(), l.directory(), l.message()}
	}
	elsewhere := map[string]bool{"limits.memory-in-flight": true, "limits.message.received": true} // given to intake and store as they are
	def := defaultLimits()
	var walk func(key string, path []int, typ reflect.Type)
	walk = func(key string, path []int, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, at := key+"."+f.Tag.Get("toml"), append(append([]int{}, path...), i)
			if f.Type.Kind() == reflect.Struct {
				walk(name, at, f.Type)
				continue
			}
			if f.Type.Kind() == reflect.Slice {
				continue // exempt networks
			}
			l := defaultLimits()
			v := reflect.ValueOf(&l).Elem().FieldByIndex(at)
			low, high := readBounds(f.Tag.Get("bounds"), f.Type)
			if v.Int() < low || v.Int() > high || low < 1 {
				t.Errorf("%s: the default %v is not within its bounds %q", name, v.Interface(), f.Tag.Get("bounds"))
			}
			v.SetInt(v.Int() + 1)
			if reflect.DeepEqual(rooms(&l), rooms(&def)) != elsewhere[name] {
				t.Errorf("%s reaches no room", name)
			}
		}
	}
	walk("limits", nil, reflect.TypeOf(def))
}

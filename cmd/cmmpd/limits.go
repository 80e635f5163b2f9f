package main

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"cmmpd/directory"
	"cmmpd/directory/server"
	"cmmpd/imap"
	"cmmpd/internal/auth"
	"cmmpd/internal/message"
	"cmmpd/smtp"
)

// limitsConfig has every limit that a room knows. The defaults are the rooms' own; the
// bounds are what a value may be, both ends included.
type limitsConfig struct {
	MessageSize     size            `toml:"message-size" bounds:"64KiB,100MiB"`
	MemoryInFlight  size            `toml:"memory-in-flight" bounds:"1MiB,1024GiB"`
	ProgressTimeout duration        `toml:"progress-timeout" bounds:"1s,1h"`
	ExemptNetworks  []string        `toml:"exempt-networks"`
	Message         messageLimits   `toml:"message"`
	SMTP            smtpLimits      `toml:"smtp"`
	IMAP            imapLimits      `toml:"imap"`
	LDAP            ldapLimits      `toml:"ldap"`
	Login           loginLimits     `toml:"login"`
	Directory       directoryLimits `toml:"directory"`
}

type messageLimits struct {
	Header   size `toml:"header" bounds:"16KiB,1MiB"`
	Fields   int  `toml:"fields" bounds:"100,10000"`
	Parts    int  `toml:"parts" bounds:"10,10000"`
	Depth    int  `toml:"depth" bounds:"5,100"`
	Received int  `toml:"received" bounds:"10,1000"`
}

type smtpLimits struct {
	Connections           int      `toml:"connections" bounds:"1,1000000"`
	ConnectionsPerAddress int      `toml:"connections-per-address" bounds:"1,1000000"`
	CommandLine           size     `toml:"command-line" bounds:"1KiB,64KiB"`
	Recipients            int      `toml:"recipients" bounds:"100,100000"`
	RefusedCommands       int      `toml:"refused-commands" bounds:"1,10000"`
	Commands              int      `toml:"commands" bounds:"1,1000000"`
	CommandsBeforeLogin   int      `toml:"commands-before-login" bounds:"5,10000"`
	FailedLogins          int      `toml:"failed-logins" bounds:"1,1000"`
	CommandTimeout        duration `toml:"command-timeout" bounds:"10s,1h"`
	MessageTime           duration `toml:"message-time" bounds:"10s,24h"`
}

type imapLimits struct {
	Connections           int      `toml:"connections" bounds:"1,1000000"`
	ConnectionsPerAddress int      `toml:"connections-per-address" bounds:"1,1000000"`
	CommandLine           size     `toml:"command-line" bounds:"8KiB,16MiB"`
	Literals              size     `toml:"literals" bounds:"4KiB,16MiB"`
	LiteralsBeforeLogin   size     `toml:"literals-before-login" bounds:"1KiB,64KiB"`
	Nesting               int      `toml:"nesting" bounds:"10,1000"`
	Elements              int      `toml:"elements" bounds:"100,1000000"`
	CommandsBeforeLogin   int      `toml:"commands-before-login" bounds:"5,10000"`
	MalformedCommands     int      `toml:"malformed-commands" bounds:"1,10000"`
	MalformedBeforeLogin  int      `toml:"malformed-before-login" bounds:"1,10000"`
	FailedLogins          int      `toml:"failed-logins" bounds:"1,1000"`
	LoginTime             duration `toml:"login-time" bounds:"10s,1h"`
	IdleTimeout           duration `toml:"idle-timeout" bounds:"30m,24h"` // RFC 3501, section 5.4
	SearchTime            duration `toml:"search-time" bounds:"1s,1h"`
}

type ldapLimits struct {
	Connections           int      `toml:"connections" bounds:"1,1000000"`
	ConnectionsPerAddress int      `toml:"connections-per-address" bounds:"1,1000000"`
	Request               size     `toml:"request" bounds:"4KiB,16MiB"`
	IdleTimeout           duration `toml:"idle-timeout" bounds:"10s,24h"`
	SearchTime            duration `toml:"search-time" bounds:"1s,1h"`
	Entries               int      `toml:"entries" bounds:"1,1000000"`
	PagedEntries          int      `toml:"paged-entries" bounds:"1,10000000"`
	SearchesPerMinute     int      `toml:"searches-per-minute" bounds:"1,1000000"`
	Import                size     `toml:"import" bounds:"1KiB,1GiB"`
}

type loginLimits struct {
	Failures           int      `toml:"failures" bounds:"1,1000"`
	FailuresPerAddress int      `toml:"failures-per-address" bounds:"1,100000"`
	FirstDelay         duration `toml:"first-delay" bounds:"100ms,1m"`
	LongestDelay       duration `toml:"longest-delay" bounds:"1s,1h"`
	Patience           duration `toml:"patience" bounds:"1s,5m"`
	ForgetAfter        duration `toml:"forget-after" bounds:"1m,24h"`
	Remembered         int      `toml:"remembered" bounds:"1000,10000000"`
	Waiting            int      `toml:"waiting" bounds:"1,1000000"`
	CredentialTime     duration `toml:"credential-time" bounds:"1s,1h"`
	Credentials        int      `toml:"credentials" bounds:"1,10000000"`
}

type directoryLimits struct {
	Connections  int      `toml:"connections" bounds:"1,1000"`
	Timeout      duration `toml:"timeout" bounds:"1s,5m"`
	CacheTime    duration `toml:"cache-time" bounds:"1ms,1h"`
	CacheEntries int      `toml:"cache-entries" bounds:"1,10000000"`
	GroupDepth   int      `toml:"group-depth" bounds:"1,100"`
	GroupMembers int      `toml:"group-members" bounds:"1,1000000"`
}

// defaultLimits are the limits that the rooms have when nobody says anything.
func defaultLimits() limitsConfig {
	s, i, d := smtp.DefaultLimits(), imap.DefaultLimits(), server.DefaultLimits()
	m, a, r := message.DefaultLimits(), auth.DefaultLimits(), directory.DefaultLimits()
	return limitsConfig{
		MessageSize: size(s.MessageSize), MemoryInFlight: 512 << 20, ProgressTimeout: duration(s.Progress),
		Message: messageLimits{Header: size(m.HeaderBytes), Fields: m.Fields, Parts: m.Parts, Depth: m.Depth, Received: 50},
		SMTP: smtpLimits{
			Connections: s.Connections, ConnectionsPerAddress: s.PerAddress, CommandLine: size(s.CommandLine), Recipients: s.Recipients,
			RefusedCommands: s.Errors, Commands: s.Commands, CommandsBeforeLogin: s.BeforeLogin, FailedLogins: s.Logins,
			CommandTimeout: duration(s.Idle), MessageTime: duration(s.Total),
		},
		IMAP: imapLimits{
			Connections: i.Connections, ConnectionsPerAddress: i.ConnectionsPerAddr, CommandLine: size(i.LineBytes), Literals: size(i.LiteralBytes),
			LiteralsBeforeLogin: size(i.EarlyLiteralBytes), Nesting: i.Depth, Elements: i.Elements, CommandsBeforeLogin: i.EarlyCommands,
			MalformedCommands: i.BadCommands, MalformedBeforeLogin: i.EarlyBad, FailedLogins: i.LoginAttempts, LoginTime: duration(i.EarlyIdle),
			IdleTimeout: duration(i.Idle), SearchTime: duration(i.Search),
		},
		LDAP: ldapLimits{
			Connections: d.Connections, ConnectionsPerAddress: d.PerAddress, Request: size(d.Message), IdleTimeout: duration(d.Idle),
			SearchTime: duration(d.Operation), Entries: d.Entries, PagedEntries: d.PagedEntries, SearchesPerMinute: d.SearchRate, Import: size(d.ImportBytes),
		},
		Login: loginLimits{
			Failures: a.Free, FailuresPerAddress: a.FreeFrom, FirstDelay: duration(a.First), LongestDelay: duration(a.Longest), Patience: duration(a.Patience),
			ForgetAfter: duration(a.Forget), Remembered: a.Entries, Waiting: a.Waiting, CredentialTime: duration(a.CredentialTime), Credentials: a.Credentials,
		},
		Directory: directoryLimits{
			Connections: r.Connections, Timeout: duration(r.Timeout), CacheTime: duration(r.CacheTTL), CacheEntries: r.CacheEntries,
			GroupDepth: r.GroupDepth, GroupMembers: r.GroupMembers,
		},
	}
}

func (l *limitsConfig) smtp() smtp.Limits {
	c := &l.SMTP
	return smtp.Limits{
		MessageSize: int64(l.MessageSize), Recipients: c.Recipients, CommandLine: int(c.CommandLine), Connections: c.Connections,
		PerAddress: c.ConnectionsPerAddress, Errors: c.RefusedCommands, Commands: c.Commands, BeforeLogin: c.CommandsBeforeLogin, Logins: c.FailedLogins,
		Idle: time.Duration(c.CommandTimeout), Progress: time.Duration(l.ProgressTimeout), Total: time.Duration(c.MessageTime),
	}
}

func (l *limitsConfig) imap() imap.Limits {
	c := &l.IMAP
	return imap.Limits{
		Connections: c.Connections, ConnectionsPerAddr: c.ConnectionsPerAddress, LineBytes: int(c.CommandLine), LiteralBytes: int64(c.Literals),
		EarlyLiteralBytes: int64(c.LiteralsBeforeLogin), MessageBytes: int64(l.MessageSize), Depth: c.Nesting, Elements: c.Elements,
		EarlyCommands: c.CommandsBeforeLogin, BadCommands: c.MalformedCommands, EarlyBad: c.MalformedBeforeLogin, LoginAttempts: c.FailedLogins,
		EarlyIdle: time.Duration(c.LoginTime), Idle: time.Duration(c.IdleTimeout), Search: time.Duration(c.SearchTime), Progress: time.Duration(l.ProgressTimeout),
	}
}

func (l *limitsConfig) ldap() server.Limits {
	c := &l.LDAP
	return server.Limits{
		Message: int(c.Request), Connections: c.Connections, PerAddress: c.ConnectionsPerAddress, Idle: time.Duration(c.IdleTimeout),
		Progress: time.Duration(l.ProgressTimeout), Operation: time.Duration(c.SearchTime), Entries: c.Entries, PagedEntries: c.PagedEntries,
		SearchRate: c.SearchesPerMinute, ImportBytes: int64(c.Import),
	}
}

func (l *limitsConfig) login() auth.Limits {
	c := &l.Login
	return auth.Limits{
		Free: c.Failures, FreeFrom: c.FailuresPerAddress, First: time.Duration(c.FirstDelay), Longest: time.Duration(c.LongestDelay),
		Patience: time.Duration(c.Patience), Forget: time.Duration(c.ForgetAfter), Entries: c.Remembered, Waiting: c.Waiting,
		CredentialTime: time.Duration(c.CredentialTime), Credentials: c.Credentials,
	}
}

func (l *limitsConfig) directory() directory.Limits {
	c := &l.Directory
	return directory.Limits{
		Connections: c.Connections, Timeout: time.Duration(c.Timeout), CacheTTL: time.Duration(c.CacheTime), CacheEntries: c.CacheEntries,
		GroupDepth: c.GroupDepth, GroupMembers: c.GroupMembers,
	}
}

func (l *limitsConfig) message() message.Limits {
	c := &l.Message
	return message.Limits{HeaderBytes: int(c.Header), Fields: c.Fields, Parts: c.Parts, Depth: c.Depth}
}

// exempt are the networks without delays and limits per address.
func (l *limitsConfig) exempt() []netip.Prefix {
	var list []netip.Prefix
	for _, n := range l.ExemptNetworks {
		if p, err := netip.ParsePrefix(n); err == nil {
			list = append(list, p)
		}
	}
	return list
}

func (l *limitsConfig) check(f *tomlFile) {
	checkBounds(f, "limits", reflect.ValueOf(l).Elem())
	if l.MessageSize > l.MemoryInFlight {
		f.bad("limits.memory-in-flight", "is smaller than limits.message-size")
	}
	if l.SMTP.Commands < l.SMTP.Recipients+20 {
		f.bad("limits.smtp.commands", "%d do not suffice for a message to %d recipients", l.SMTP.Commands, l.SMTP.Recipients)
	}
	if l.Login.FirstDelay > l.Login.LongestDelay {
		f.bad("limits.login.longest-delay", "is shorter than limits.login.first-delay")
	}
	for _, n := range l.ExemptNetworks {
		if _, err := netip.ParsePrefix(n); err != nil {
			f.bad("limits.exempt-networks", "%q is not a network such as \"127.0.0.0/8\"", n)
		}
	}
}

// checkBounds holds every number below v to its bounds.
func checkBounds(f *tomlFile, key string, v reflect.Value) {
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name := key + "." + field.Tag.Get("toml")
			if bounds := field.Tag.Get("bounds"); bounds == "" {
				checkBounds(f, name, v.Field(i))
			} else if low, high := readBounds(bounds, v.Field(i).Type()); v.Field(i).Int() < low || v.Field(i).Int() > high {
				least, most, _ := strings.Cut(bounds, ",")
				f.bad(name, "%v is not between %s and %s", v.Field(i).Interface(), least, most)
			}
		}
	}
}

// readBounds reads "low,high" in the manner of the type. They stand in our own source:
// bad ones are a fault of ours, and bound nothing in.
func readBounds(bounds string, typ reflect.Type) (low, high int64) {
	var ends [2]int64
	for i, text := range strings.SplitN(bounds, ",", 2) {
		v := reflect.New(typ)
		if u, ok := v.Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(text)); err != nil {
				return 1, 0
			}
			ends[i] = v.Elem().Int()
		} else if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			ends[i] = n
		}
	}
	return ends[0], ends[1]
}

// quota is a size, or 0, written "none".
type quota int64

func (q *quota) UnmarshalText(b []byte) error {
	if string(b) == "none" {
		*q = 0
		return nil
	}
	return (*size)(q).UnmarshalText(b)
}

func (q quota) String() string {
	if q == 0 {
		return "none"
	}
	return size(q).String()
}

func (d duration) String() string { return time.Duration(d).String() }

func (s size) String() string {
	for _, u := range []struct {
		name string
		size size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s >= u.size && s%u.size == 0 {
			return fmt.Sprint(int64(s/u.size), u.name)
		}
	}
	return fmt.Sprint(int64(s), " octets")
}

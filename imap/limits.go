package imap

import "time"

// DefaultLimits are what zero fields of Limits become.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

// Limits bound what a client may cost us. They stand at the reader, before anything
// is parsed. A zero field takes its default.
type Limits struct {
	Connections        int           // open connections in all; default 20,000
	ConnectionsPerAddr int           // open connections from one address (IPv6: one /64), Options.Exempt excepted; default 100
	LineBytes          int           // one command without its literals; default 64 KiB
	LiteralBytes       int64         // all literals of one command but APPEND's message; default 64 KiB
	EarlyLiteralBytes  int64         // the same before log-in; default 4 KiB
	MessageBytes       int64         // one appended message; default 50 MiB
	Depth              int           // nesting of lists and of search keys; default 100
	Elements           int           // elements of one command; default 10,000
	EarlyCommands      int           // commands before log-in; default 30
	BadCommands        int           // malformed commands in a row before the connection is closed; default 20
	EarlyBad           int           // the same before log-in; default 10
	LoginAttempts      int           // failed log-ins on one connection; default 3
	EarlyIdle          time.Duration // all the time until log-in; default 2 minutes
	Idle               time.Duration // silence after log-in, IDLE included; default 31 minutes (RFC 3501, section 5.4: at least 30)
	Search             time.Duration // one SEARCH; default 2 minutes
	Progress           time.Duration // silence inside a command, and a write that does not move; default 1 minute
}

func (l Limits) withDefaults() Limits {
	def(&l.Connections, 20_000)
	def(&l.ConnectionsPerAddr, 100)
	def(&l.LineBytes, 64<<10)
	def(&l.LiteralBytes, 64<<10)
	def(&l.EarlyLiteralBytes, 4<<10)
	def(&l.MessageBytes, 50<<20)
	def(&l.Depth, 100)
	def(&l.Elements, 10_000)
	def(&l.EarlyCommands, 30)
	def(&l.BadCommands, 20)
	def(&l.EarlyBad, 10)
	def(&l.LoginAttempts, 3)
	def(&l.EarlyIdle, 2*time.Minute)
	def(&l.Idle, 31*time.Minute)
	def(&l.Search, 2*time.Minute)
	def(&l.Progress, time.Minute)
	return l
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

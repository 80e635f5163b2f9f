package imap

import "cmmpd/imap/wire"

// state is a set of the states of RFC 3501, section 3.
type state uint8

const (
	inClear  state = 1 << iota // not authenticated, no TLS
	inTLS                      // not authenticated, under TLS
	inUser                     // authenticated
	selected                   //

	early    = inClear | inTLS
	loggedIn = inUser | selected
	anywhere = early | loggedIn
)

// updates says which news of the mailbox may stand before the tagged response of a
// command (RFC 3501, section 7.4.1).
type updates uint8

const (
	allUpdates updates = iota
	noExpunge          // sequence numbers must not change
	noUpdates
)

// command is one row of the table: where a command is allowed, and how it is carried
// out. run parses all arguments before it acts; code is the response code of the OK.
type command struct {
	in      state
	updates updates
	uid     bool // there is a UID form, in which all updates are allowed
	run     func(s *session, p *wire.Parser) (code string, err error)
}

func commandTable() map[string]command {
	return map[string]command{
		"CAPABILITY":   {in: anywhere, run: cmdCapability},
		"NOOP":         {in: anywhere, run: cmdNoop},
		"LOGOUT":       {in: anywhere, updates: noUpdates, run: cmdLogout},
		"ID":           {in: anywhere, run: cmdID},
		"STARTTLS":     {in: inClear, run: cmdStartTLS},
		"AUTHENTICATE": {in: early, run: cmdAuthenticate},
		"LOGIN":        {in: early, run: cmdLogin},
		"ENABLE":       {in: loggedIn, run: cmdEnable},
		"SELECT":       {in: loggedIn, updates: noUpdates, run: cmdSelect},
		"EXAMINE":      {in: loggedIn, updates: noUpdates, run: cmdExamine},
		"CREATE":       {in: loggedIn, run: cmdCreate},
		"DELETE":       {in: loggedIn, run: cmdDelete},
		"RENAME":       {in: loggedIn, run: cmdRename},
		"SUBSCRIBE":    {in: loggedIn, run: cmdSubscribe},
		"UNSUBSCRIBE":  {in: loggedIn, run: cmdUnsubscribe},
		"LIST":         {in: loggedIn, run: cmdList},
		"LSUB":         {in: loggedIn, run: cmdLsub},
		"NAMESPACE":    {in: loggedIn, run: cmdNamespace},
		"STATUS":       {in: loggedIn, run: cmdStatus},
		"GETQUOTA":     {in: loggedIn, run: cmdGetQuota},
		"GETQUOTAROOT": {in: loggedIn, run: cmdGetQuotaRoot},
		"APPEND":       {in: loggedIn, run: cmdAppend},
		"IDLE":         {in: loggedIn, run: cmdIdle},
		"CHECK":        {in: selected, run: cmdCheck},
		"CLOSE":        {in: selected, updates: noUpdates, run: cmdClose},
		"UNSELECT":     {in: selected, updates: noUpdates, run: cmdUnselect},
		"EXPUNGE":      {in: selected, uid: true, run: cmdExpunge},
		"SEARCH":       {in: selected, updates: noExpunge, uid: true, run: cmdSearch},
		"FETCH":        {in: selected, updates: noExpunge, uid: true, run: cmdFetch},
		"STORE":        {in: selected, updates: noExpunge, uid: true, run: cmdStore},
		"COPY":         {in: selected, uid: true, run: cmdCopy},
		"MOVE":         {in: selected, uid: true, run: cmdMove},
		"UID":          {in: selected}, // the prefix of those with uid
	}
}

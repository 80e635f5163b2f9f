package directory

// Names are the attribute names that entries are read by. An empty field takes the
// name of our own schema.
type Names struct {
	UID         string // "uid"
	Name        string // "displayName"; then cn
	Mail        string // "mail"
	Alias       string // "mailAlternateAddress"
	Certificate string // "userCertificate;binary"
	Profile     string // "cmmpdCipherProfile"
	Clearance   string // "cmmpdClearance"
	Role        string // "cmmpdRole"
	Member      string // "member"
	Holder      string // "roleOccupant"
	Department  string // "ou"
	UUID        string // "entryUUID"
}

package server

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"strings"

	"golang.org/x/text/secure/precis"
)

// Rounds of PBKDF2 (RFC 7677, section 4): what a verifier must have at least, and what
// ours have. maxRounds keeps a verifier from costing the server minutes.
const (
	minRounds     = 4096
	DefaultRounds = 15000
	maxRounds     = 2_000_000
)

// verifier is a SCRAM-SHA-256 verifier, in text as in RFC 5803:
//
//	SCRAM-SHA-256$rounds:salt$StoredKey:ServerKey
type verifier struct {
	rounds                     int
	salt, storedKey, serverKey []byte
}

var (
	errPassword = errors.New("the password cannot be used: it is empty, too long or has characters that passwords may not have")
	errVerifier = errors.New("the password verifier is damaged")
	errScheme   = errors.New("this form of stored password is not known; give SCRAM-SHA-256 or the password itself")
)

// HashPassword returns the text that stands for the password in userPassword: a
// SCRAM-SHA-256 verifier (RFC 5803), with rounds of at least 4,096.
func HashPassword(rnd io.Reader, password string, rounds int) (string, error) {
	salt := make([]byte, 16)
	if _, err := io.ReadFull(rnd, salt); err != nil {
		return "", err
	}
	v, err := makeVerifier(password, salt, rounds)
	if err != nil {
		return "", err
	}
	return v.String(), nil
}

func makeVerifier(password string, salt []byte, rounds int) (verifier, error) {
	if rounds < minRounds || rounds > maxRounds {
		return verifier{}, errVerifier
	}
	if len(password) > 1024 {
		return verifier{}, errPassword
	}
	p, err := precis.OpaqueString.String(password) // RFC 8265, section 4.2, as RFC 7613 replaced SASLprep
	if err != nil {
		return verifier{}, errPassword
	}
	salted, err := pbkdf2.Key(sha256.New, p, salt, rounds, sha256.Size)
	if err != nil {
		return verifier{}, err
	}
	stored := sha256.Sum256(hmacOf(salted, "Client Key"))
	return verifier{rounds, salt, stored[:], hmacOf(salted, "Server Key")}, nil
}

func hmacOf(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (v verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return "SCRAM-SHA-256$" + strconv.Itoa(v.rounds) + ":" + b64(v.salt) + "$" + b64(v.storedKey) + ":" + b64(v.serverKey)
}

// parseVerifier reads a verifier; `{SCRAM-SHA-256}` in place of `SCRAM-SHA-256$` is
// taken too. ok is false if text does not look like a stored password at all.
func parseVerifier(text string) (v verifier, ok bool, err error) {
	rest, ok := strings.CutPrefix(text, "SCRAM-SHA-256$")
	if !ok {
		rest, ok = strings.CutPrefix(text, "{SCRAM-SHA-256}")
	}
	if !ok {
		if i := strings.IndexByte(text, '}'); strings.HasPrefix(text, "{") && i > 1 && strings.Trim(text[1:i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/") == "" {
			return v, true, errScheme
		}
		return v, false, nil
	}
	parts := strings.FieldsFunc(rest, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 4 || strings.Count(rest, ":") != 2 || strings.Count(rest, "$") != 1 {
		return v, true, errVerifier
	}
	v.rounds, err = strconv.Atoi(parts[0])
	if err != nil || v.rounds < minRounds || v.rounds > maxRounds {
		return v, true, errVerifier
	}
	for i, to := range []*[]byte{&v.salt, &v.storedKey, &v.serverKey} {
		if *to, err = base64.StdEncoding.Strict().DecodeString(parts[i+1]); err != nil {
			return v, true, errVerifier
		}
	}
	if len(v.salt) < 8 || len(v.salt) > 64 || len(v.storedKey) != sha256.Size || len(v.serverKey) != sha256.Size || v.String() != "SCRAM-SHA-256$"+strings.Join([]string{parts[0] + ":" + parts[1], parts[2] + ":" + parts[3]}, "$") {
		return v, true, errVerifier
	}
	return v, true, nil
}

// verify says whether password is the one, in time that depends on the rounds alone.
func (v verifier) verify(password string) bool {
	w, err := makeVerifier(password, v.salt, v.rounds)
	return err == nil && subtle.ConstantTimeCompare(w.storedKey, v.storedKey) == 1
}

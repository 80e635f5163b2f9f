package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

const pathKeyImport = "/v1/keys/import"

// KeyImport is a signing key that was made elsewhere and shall be kept in the keystore.
type KeyImport struct {
	Name        string // of the key, in the slot of the service keys
	For         string // whose mail it signs: an address or a domain; for the record
	Certificate string // fingerprint of its certificate, SHA-256 in hexadecimal; for the record
}

// maxKey bounds a private key, in octets of PEM.
const maxKey = 64 << 10

// ImportKey puts the private key, PKCS #8 in PEM, into the keystore. Whoever may use the socket may ask: it is they who name
// the key in the configuration. Its record holds whose key it is, and nothing of the key.
func (s *Service) ImportKey(ctx context.Context, who Caller, q KeyImport, key io.Reader) error {
	act, err := s.beginOn(ctx, audit.KeyImport, "", q.Name, who)
	if err != nil {
		return err
	}
	act.Detail("for", q.For)
	act.Detail("certificate", q.Certificate)
	text, err := io.ReadAll(io.LimitReader(key, maxKey+1))
	defer clear(text)
	if err == nil && len(text) > maxKey {
		err = mail.E(mail.TooLarge, "the key is too long", nil)
	}
	if err == nil {
		err = s.o.ImportKey(ctx, q.Name, text)
	}
	return s.end(ctx, act, err)
}

func (s *Server) importKey(w http.ResponseWriter, r *http.Request, who Caller) error {
	v := r.URL.Query()
	if err := s.service.ImportKey(r.Context(), who, KeyImport{Name: v.Get("name"), For: v.Get("for"), Certificate: v.Get("certificate")}, r.Body); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(struct{}{})
}

// ImportKey is Service.ImportKey.
func (c *Client) ImportKey(ctx context.Context, q KeyImport, key io.Reader) error {
	form := url.Values{"name": {q.Name}, "for": {q.For}, "certificate": {q.Certificate}}
	return c.do(ctx, pathKeyImport, form, key, func(io.Reader) error { return nil })
}

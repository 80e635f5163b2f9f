package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

const pathKeyAct = "/v1/keys/act"

// The acts on keys.
const (
	KeyGenerate = "generate"
	KeyRetire   = "retire"
	KeyUnretire = "unretire"
	KeyRequest  = "request" // of a certificate: the key signs it
)

// KeyAct is an act on a key that is in files, of which no keyd keeps a journal.
type KeyAct struct {
	Op   string `json:"op"`
	Slot string `json:"slot"`
	Name string `json:"name"`

	Kind string `json:"kind,omitempty"` // of key, to generate

	CommonName string `json:"cn,omitempty"` // what the certificate shall have
	Address    string `json:"address,omitempty"`
	Host       string `json:"host,omitempty"`
}

// KeyAct does an act on a key; of a request, the result is PEM. Whoever may use the socket may ask: they can write the files, too.
func (s *Service) KeyAct(ctx context.Context, who Caller, a KeyAct) ([]byte, error) {
	detail := map[string]string{"op": a.Op}
	for name, v := range map[string]string{"kind": a.Kind, "name": a.CommonName, "address": a.Address, "host": a.Host} {
		if v != "" {
			detail[name] = v
		}
	}
	act, err := s.beginWith(ctx, audit.KeyAct, "", a.Slot+"/"+a.Name, who, detail)
	if err != nil {
		return nil, err
	}
	result, err := s.o.KeyAct(ctx, a)
	if err = s.end(ctx, act, err); err != nil {
		return nil, err
	}
	return result, nil
}

func (s *Server) keyAct(w http.ResponseWriter, r *http.Request, who Caller) error {
	var a KeyAct
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&a); err != nil {
		return mail.E(mail.Invalid, "the request is not understood", err)
	}
	result, err := s.service.KeyAct(r.Context(), who, a)
	if err != nil {
		return err
	}
	_, err = w.Write(result)
	return err
}

// KeyAct is Service.KeyAct.
func (c *Client) KeyAct(ctx context.Context, a KeyAct) (result []byte, err error) {
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	err = c.do(ctx, pathKeyAct, nil, bytes.NewReader(b), func(r io.Reader) (err error) {
		result, err = io.ReadAll(r)
		return err
	})
	return result, err
}

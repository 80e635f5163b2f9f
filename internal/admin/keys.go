package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"cmmpd/audit"
)

const (
	pathPlatformKeys = "/v1/keys/platform"
	pathRotate       = "/v1/keys/rotate"
)

// PlatformKeys is which platform keys wrap accounts' keys.
type PlatformKeys struct {
	Current string         `json:"current"` // accounts are to be under this one
	Under   map[string]int `json:"under"`   // how many accounts are under each
	Waiting int            `json:"waiting"` // how many of them are not under the current one yet
	Stale   bool           `json:"stale"`   // the vault's file still has what was wrapped anew
	Waits   string         `json:"waits"`   // why it does not go on; empty: it does, or there is nothing to do
	Next    string         `json:"next"`    // the name that the next key would have
	Made    bool           `json:"made"`    // that one is there already
}

// Done says whether all accounts are under the current key, and nothing is left under another.
func (p *PlatformKeys) Done() bool { return p.Waiting == 0 && !p.Stale }

// PlatformKeys says how far a rotation is. Whoever may use the socket may ask: the answer holds counts only.
func (s *Service) PlatformKeys(ctx context.Context) (PlatformKeys, error) {
	return s.o.PlatformKeys(ctx)
}

// RotateKey has accounts' keys be wrapped under the named platform key: new ones from now on, the others in the background. Whoever may use the socket
// may ask: in tokens only an operator of keyd makes keys, and nothing is lost by it.
func (s *Service) RotateKey(ctx context.Context, who Caller, name string) error {
	act, err := s.beginOn(ctx, audit.KeyRotate, "", "mail/"+name, who)
	if err != nil {
		return err
	}
	return s.end(ctx, act, s.o.RotateKey(ctx, name))
}

func (s *Server) platformKeys(w http.ResponseWriter, r *http.Request, _ Caller) error {
	p, err := s.service.PlatformKeys(r.Context())
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(p)
}

func (s *Server) rotateKey(w http.ResponseWriter, r *http.Request, who Caller) error {
	if err := s.service.RotateKey(r.Context(), who, r.FormValue("key")); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(struct{}{})
}

// PlatformKeys is Service.PlatformKeys.
func (c *Client) PlatformKeys(ctx context.Context) (p PlatformKeys, err error) {
	err = c.do(ctx, pathPlatformKeys, nil, nil, func(r io.Reader) error { return json.NewDecoder(r).Decode(&p) })
	return p, err
}

// RotateKey is Service.RotateKey.
func (c *Client) RotateKey(ctx context.Context, name string) error {
	return c.do(ctx, pathRotate, url.Values{"key": {name}}, nil, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

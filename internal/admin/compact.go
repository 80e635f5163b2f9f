package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"cmmpd/audit"
	"cmmpd/storage"
)

const pathCompact = "/v1/store/compact"

// Compact removes from the disk what of the store nobody needs any more, expunged mail above all. Whoever may use the socket may ask: it loses
// nothing that anybody can still see.
func (s *Service) Compact(ctx context.Context, who Caller) (storage.CompactReport, error) {
	act, err := s.begin(ctx, audit.StoreCompact, "", who)
	if err != nil {
		return storage.CompactReport{}, err
	}
	r, err := s.o.Compact(ctx)
	act.Detail("segments", strconv.Itoa(r.Segments))
	act.Detail("freed", strconv.FormatInt(r.Freed, 10))
	act.Detail("skipped", strconv.Itoa(r.Skipped))
	return r, s.end(ctx, act, err)
}

func (s *Server) compact(w http.ResponseWriter, r *http.Request, who Caller) error {
	rep, err := s.service.Compact(r.Context(), who)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(rep)
}

// Compact is Service.Compact.
func (c *Client) Compact(ctx context.Context) (rep storage.CompactReport, err error) {
	err = c.do(ctx, pathCompact, nil, nil, func(r io.Reader) error { return json.NewDecoder(r).Decode(&rep) })
	return rep, err
}

package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"cmmpd/internal/intake"
)

const pathExplain = "/v1/policy/explain"

// ExplainRequest says of which message, on which way, somebody wants to know what would
// become of it.
type ExplainRequest struct {
	Path string   // "submission", "inbound", "append", "drafts"
	User string   // who submits or saves: a log-in name or an address; empty: the author that the message names
	From string   // of the envelope; empty: the user, or the author
	To   []string // empty: those whom the message names
}

// Explain says what would become of a message. Whoever may use the socket may ask: the
// message is theirs, nothing is changed, and nothing goes on record.
func (s *Service) Explain(ctx context.Context, q ExplainRequest, message io.Reader) (*intake.Explanation, error) {
	return s.o.Explain(ctx, q, message)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request, _ Caller) error {
	v := r.URL.Query()
	e, err := s.service.Explain(r.Context(), ExplainRequest{Path: v.Get("path"), User: v.Get("user"), From: v.Get("from"), To: v["to"]}, r.Body)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(e)
}

// Explain is Service.Explain.
func (c *Client) Explain(ctx context.Context, q ExplainRequest, message io.Reader) (e *intake.Explanation, err error) {
	form := url.Values{"path": {q.Path}, "user": {q.User}, "from": {q.From}, "to": q.To}
	err = c.do(ctx, pathExplain, form, message, func(r io.Reader) error { return json.NewDecoder(r).Decode(&e) })
	return e, err
}

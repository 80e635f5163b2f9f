package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

const pathAuditForget = "/v1/audit/forget"

// RoleRecords looks after records and their disposal.
const RoleRecords = "records-manager"

// ForgetRequest says which personal data is to be erased beside the audit log: one value, or what no record of a day or
// later has.
type ForgetRequest struct {
	Value  string    `json:"value"`
	Before time.Time `json:"before"`
	Reason string    `json:"reason"`
}

// ForgetNames erases personal data, and returns how many values. The log stays as it is, and verifies; it does not say
// any more who was meant. The caller must have the role auditor or records-manager, and give a reason, which is itself such data.
func (s *Service) ForgetNames(ctx context.Context, who Caller, q ForgetRequest) (erased int, err error) {
	switch {
	case (q.Value == "") == q.Before.IsZero():
		return 0, mail.E(mail.Invalid, "either a value or a day is needed", nil)
	case strings.TrimSpace(q.Reason) == "":
		return 0, mail.E(mail.Invalid, "a reason is needed", nil)
	case s.o.Forget == nil:
		return 0, mail.E(mail.Unsupported, "there is no table of names (audit.names): personal data is in the log itself", nil)
	}
	actor, err := s.authorize(ctx, who, RoleAuditor, RoleRecords)
	if err != nil {
		return 0, err
	}
	detail := map[string]string{"reason": q.Reason, "by": "value"}
	if q.Value == "" {
		detail["by"], detail["before"] = "day", q.Before.UTC().Format(time.DateOnly)
	}
	act, err := s.beginWith(ctx, audit.AuditForget, actor, "", who, detail)
	if err != nil {
		return 0, err
	}
	erased, err = s.o.Forget(q)
	act.Detail("erased", strconv.Itoa(erased))
	return erased, s.end(ctx, act, err)
}

// forgotten is the answer.
type forgotten struct {
	Erased int `json:"erased"`
}

func (s *Server) auditForget(w http.ResponseWriter, r *http.Request, who Caller) error {
	var q ForgetRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&q); err != nil {
		return mail.E(mail.Invalid, "the request is not understood", err)
	}
	n, err := s.service.ForgetNames(r.Context(), who, q)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(forgotten{n})
}

// ForgetNames is Service.ForgetNames.
func (c *Client) ForgetNames(ctx context.Context, q ForgetRequest) (int, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return 0, err
	}
	var res forgotten
	err = c.do(ctx, pathAuditForget, nil, strings.NewReader(string(b)), func(r io.Reader) error { return json.NewDecoder(r).Decode(&res) })
	return res.Erased, err
}

package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

const pathRestore = "/v1/restore"

// RestoreRequest says which messages of a backup are wanted back.
type RestoreRequest struct {
	Account   string // uid of a person or a post
	Mailbox   string // empty: all
	MessageID string // without angle brackets; empty: all
}

// RestoreResult counts messages of the backup that were asked for.
type RestoreResult struct {
	Restored   int `json:"restored"`
	Present    int `json:"present"`    // still in the account, and left alone
	Unreadable int `json:"unreadable"` // their keys have been erased since
}

// RestoreAccount puts messages of a backup that an account no longer has back into it. The caller must have the role
// admin.
func (s *Service) RestoreAccount(ctx context.Context, who Caller, q RestoreRequest, mailBackup, vault io.Reader) (res RestoreResult, err error) {
	if q.Account == "" {
		return res, mail.E(mail.Invalid, "whose messages?", nil)
	}
	actor, err := s.authorize(ctx, who, RoleAdmin)
	if err != nil {
		return res, err
	}
	if actor == "" {
		actor = who.System
	}
	act, err := s.o.Audit.Begin(ctx, audit.Event{
		Type: audit.StoreRestore, Actor: actor, Client: "socket, " + who.System, Subject: q.Account,
		Detail: map[string]string{"mailbox": q.Mailbox, "message-id": q.MessageID},
	})
	if err != nil {
		return res, notBegun(err)
	}
	res, err = s.o.RestoreAccount(ctx, q, mailBackup, vault)
	for name, n := range map[string]int{"restored": res.Restored, "present": res.Present, "unreadable": res.Unreadable} {
		act.Detail(name, strconv.Itoa(n))
	}
	return res, s.end(ctx, act, err)
}

// restore takes both files in one body, the mail first; the parameter size is its length.
func (s *Server) restore(w http.ResponseWriter, r *http.Request, who Caller) error {
	size, err := strconv.ParseInt(r.FormValue("size"), 10, 64)
	if err != nil || size < 0 {
		return mail.E(mail.Invalid, "size is not a length", nil)
	}
	q := RestoreRequest{Account: r.FormValue("account"), Mailbox: r.FormValue("mailbox"), MessageID: r.FormValue("message-id")}
	res, err := s.service.RestoreAccount(r.Context(), who, q, io.LimitReader(r.Body, size), r.Body)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(res)
}

// RestoreAccount is Service.RestoreAccount; mailBackup is size octets long.
func (c *Client) RestoreAccount(ctx context.Context, q RestoreRequest, mailBackup io.Reader, size int64, vault io.Reader) (res RestoreResult, err error) {
	form := url.Values{"account": {q.Account}, "mailbox": {q.Mailbox}, "message-id": {q.MessageID}, "size": {strconv.FormatInt(size, 10)}}
	err = c.do(ctx, pathRestore, form, io.MultiReader(mailBackup, vault), func(r io.Reader) error { return json.NewDecoder(r).Decode(&res) })
	return res, err
}

package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"

	"cmmpd/audit"
	"cmmpd/internal/keys/escrow/cases"
	"cmmpd/internal/mail"
)

const pathEscrow = "/v1/escrow"

// RoleSecurityOfficer may bring their part of an account's key.
const RoleSecurityOfficer = "security-officer"

// EscrowAct is something that is done about the keys that officers keep.
type EscrowAct string

// The acts. What they answer is JSON if nothing else is said.
const (
	EscrowStatus  EscrowAct = "status"  // whose keys are kept
	EscrowCover   EscrowAct = "cover"   // have the officers keep all keys
	EscrowRequest EscrowAct = "request" // ask that an account be opened
	EscrowList    EscrowAct = "list"
	EscrowShare   EscrowAct = "share"   // answers with the officer's part, encrypted to them
	EscrowApprove EscrowAct = "approve" // takes it, decrypted
	EscrowRefuse  EscrowAct = "refuse"
	EscrowClose   EscrowAct = "close"
	EscrowExport  EscrowAct = "export"  // answers with the mail, encrypted
	EscrowRecover EscrowAct = "recover" // wraps keys anew
)

// EscrowQuery says what is to be done. Which fields count depends on the act.
type EscrowQuery struct {
	ID      string        `json:"id,omitempty"`  // of a request
	Why     string        `json:"why,omitempty"` // of a refusal
	Request cases.Request `json:"request,omitzero"`
}

// Escrow does acts about the keys that officers keep; they are checked, and put on record, by the Service.
type Escrow interface {
	// Case shows a request.
	Case(id string) (cases.View, error)
	// RequestRoles may ask that accounts be opened.
	RequestRoles() []string
	// Do does an act of somebody. in is what they bring, out what they get; note adds to the record of the outcome.
	Do(ctx context.Context, act EscrowAct, uid string, q EscrowQuery, in io.Reader, out io.Writer, note func(name, value string)) error
}

// escrowAct is who may do an act, and how it is recorded.
type escrowAct struct {
	event string
	roles []string // one of them; none: whoever may use the socket
	asks  bool     // those who may ask that accounts be opened may do it, too
	of    bool     // it is about a request
}

func escrowActs() map[EscrowAct]escrowAct {
	officer := []string{RoleSecurityOfficer}
	return map[EscrowAct]escrowAct{
		EscrowStatus:  {event: audit.EscrowStatus},
		EscrowCover:   {event: audit.EscrowCover, roles: []string{RoleAdmin, RoleSecurityOfficer}},
		EscrowRequest: {event: audit.EscrowRequest, asks: true},
		EscrowList:    {event: audit.EscrowList, roles: []string{RoleSecurityOfficer, "auditor"}, asks: true},
		EscrowShare:   {event: audit.EscrowShare, roles: officer, of: true},
		EscrowApprove: {event: audit.EscrowApprove, roles: officer, of: true},
		EscrowRefuse:  {event: audit.EscrowRefuse, roles: officer, of: true},
		EscrowClose:   {event: audit.EscrowClose, asks: true, of: true},
		EscrowExport:  {event: audit.EscrowExport, asks: true, of: true},
		EscrowRecover: {event: audit.EscrowRecover, asks: true, of: true},
	}
}

// Escrow does an act. It is on record, with the case number, before anything of it is done.
func (s *Service) Escrow(ctx context.Context, who Caller, what EscrowAct, q EscrowQuery, in io.Reader, out io.Writer) error {
	a, ok := escrowActs()[what]
	if s.o.Escrow == nil || !ok {
		return mail.E(mail.Unsupported, "this needs the running daemon", nil)
	}
	var uid string
	var err error
	if roles := a.roles; len(roles) > 0 || a.asks {
		if a.asks {
			roles = append(slices.Clone(roles), s.o.Escrow.RequestRoles()...)
		}
		if uid, err = s.authorizeAny(ctx, who, roles); err != nil {
			return err
		}
	}
	e := audit.Event{Type: a.event, Actor: uid, Client: "socket, " + who.System, Detail: make(map[string]string)}
	if uid == "" {
		e.Actor = who.System
	}
	about := q.Request
	if a.of {
		v, err := s.o.Escrow.Case(q.ID)
		if err != nil {
			return err
		}
		about, e.Detail["request"] = v.Request, q.ID
	}
	e.Approval, e.Subject = about.Case, about.Account
	act, err := s.o.Audit.Begin(ctx, e)
	if err != nil {
		return notBegun(err)
	}
	return s.end(ctx, act, s.o.Escrow.Do(ctx, what, uid, q, in, out, func(name, value string) { act.Detail(name, value) }))
}

// authorizeAny is authorize for acts that nobody does without a log-in, not even whoever rules the machine.
func (s *Service) authorizeAny(ctx context.Context, who Caller, roles []string) (uid string, err error) {
	if who.Name == "" {
		return "", errLogin
	}
	return s.authorize(ctx, who, roles...)
}

func (s *Server) escrow(w http.ResponseWriter, r *http.Request, who Caller) error {
	var q EscrowQuery
	if err := json.Unmarshal([]byte(r.URL.Query().Get("query")), &q); err != nil {
		return mail.E(mail.Invalid, "", err)
	}
	return s.service.Escrow(r.Context(), who, EscrowAct(r.URL.Query().Get("act")), q, r.Body, w)
}

// Escrow is Service.Escrow.
func (c *Client) Escrow(ctx context.Context, act EscrowAct, q EscrowQuery, in io.Reader, out io.Writer) error {
	b, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return c.do(ctx, pathEscrow, url.Values{"act": {string(act)}, "query": {string(b)}}, in, copyTo(out))
}

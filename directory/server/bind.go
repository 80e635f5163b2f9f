package server

import (
	"context"
	"strings"

	"cmmpd/internal/boltfile"
	"cmmpd/internal/mail"
)

// identity is who a connection acts for.
type identity struct {
	dn      string // empty: nobody has bound
	key     string // name.key of dn
	trusted bool   // the service itself, in process
}

func (i identity) known() bool { return i.trusted || i.dn != "" }

// authzID is the answer to "Who am I?" (RFC 4532; RFC 4513, section 5.2.1.8).
func (i identity) authzID() string {
	switch {
	case i.dn != "":
		return "dn:" + i.dn
	case i.trusted:
		return "u:cmmpd"
	}
	return ""
}

// bind answers a bind request. Whatever was bound before is gone first (RFC 4513,
// section 4).
func (c *conn) bind(ctx context.Context, b []byte) result {
	c.who = identity{}
	req, err := parseBind(b)
	switch {
	case err != nil:
		return result{code: protocolError, text: "malformed bind request"}
	case req.version != 3:
		return result{code: protocolError, text: "only version 3 is served"}
	case !req.simple:
		return result{code: authMethodNotSupported, text: "only simple binds are served"}
	case req.name == "" && req.password == "":
		return result{} // anonymous; it gives away nothing, so it may come before TLS
	case !c.secure:
		return result{code: confidentialityRequired, text: "TLS is needed first"}
	case req.password == "":
		// An unauthenticated bind succeeds elsewhere; programs then take it for a proof
		// (RFC 4513, sections 5.1.2 and 6.3.1).
		return result{code: unwillingToPerform, text: "a password is needed"}
	}
	if c.trusted || c.srv.o.Login == nil {
		c.who, err = c.srv.checkPassword(ctx, req.name, req.password)
	} else {
		var p mail.Principal
		if p, err = c.srv.o.Login(ctx, c.client(), req.name, req.password); err == nil {
			c.who, err = c.srv.identityOf(p.DN)
		}
	}
	if err == nil {
		return result{}
	}
	switch mail.KindOf(err) {
	case mail.AuthFailed, mail.Invalid, mail.NotFound, mail.Denied:
		return result{code: invalidCredentials}
	case mail.Busy:
		return result{code: busy, text: mail.PublicOf(err)}
	case mail.Unavailable:
		return result{code: unavailable}
	}
	c.log.Error("bind failed", "err", err)
	return result{code: other, text: "internal error"}
}

func (s *Server) identityOf(dn string) (identity, error) {
	n, err := s.st.schema.parseDN(dn)
	if err != nil || n.key == "" {
		return identity{}, mail.E(mail.Internal, "", errDN)
	}
	return identity{dn: dn, key: n.key}, nil
}

// checkPassword finds the entry by DN, address or uid and checks the password. A name
// that nobody has costs as much time as a wrong password.
func (s *Server) checkPassword(ctx context.Context, name, password string) (identity, error) {
	who, stored, err := s.credentials(name)
	if err != nil {
		return identity{}, err
	}
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-ctx.Done():
		return identity{}, ctx.Err()
	}
	good := false
	if len(stored) == 0 {
		s.nobody.verify(password)
	}
	for _, v := range stored {
		good = v.verify(password) || good
	}
	if !good {
		return identity{}, mail.E(mail.AuthFailed, "", nil)
	}
	return who, nil
}

// credentials returns whose name it is and their verifiers; none if nobody's.
func (s *Server) credentials(name string) (who identity, stored []verifier, err error) {
	st := s.st
	err = st.db.View(func(tx *boltfile.Tx) error {
		id := st.findLogin(tx, name)
		if id == 0 {
			return nil
		}
		e, err := st.get(tx, id)
		if err != nil || e == nil {
			return err
		}
		who = identity{dn: e.dn, key: e.key}
		for _, v := range e.values(description{typ: st.schema.attrs["userpassword"]}) {
			if p, ok, err := parseVerifier(string(v)); ok && err == nil {
				stored = append(stored, p)
			}
		}
		return nil
	})
	return who, stored, err
}

// findLogin finds the entry that a DN, address or uid names; 0 if none.
func (st *store) findLogin(tx *boltfile.Tx, name string) uint64 {
	types := []string{"uid"}
	if strings.Contains(name, "=") {
		if n, err := st.schema.parseDN(name); err == nil {
			return st.find(tx, n.key)
		}
	}
	if strings.Contains(name, "@") {
		types = []string{"mail", "mailalternateaddress"}
	}
	for _, t := range types {
		at := st.schema.attrs[t]
		p, ok := st.schema.prepare(at.rule, []byte(name))
		if !ok || len(p) == 0 {
			continue
		}
		if ids := st.lookup(tx, at, p); len(ids) == 1 {
			return ids[0]
		}
	}
	return 0
}

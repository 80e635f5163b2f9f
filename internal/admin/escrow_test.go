package admin

import (
	"context"
	"io"
	"strings"
	"testing"

	"cmmpd/audit"
	"cmmpd/internal/keys/escrow/cases"
	"cmmpd/internal/mail"
)

// noEscrow is a desk at which nothing is to be done.
type noEscrow struct{ t *testing.T }

func (noEscrow) Case(id string) (cases.View, error) {
	return cases.View{Request: cases.Request{ID: id, Case: "LD/1", Account: "bob"}}, nil
}

func (noEscrow) RequestRoles() []string { return []string{"records"} }

func (n noEscrow) Do(_ context.Context, act EscrowAct, uid string, _ EscrowQuery, _ io.Reader, _ io.Writer, _ func(name, value string)) error {
	n.t.Errorf("%s is done for %q", act, uid)
	return nil
}

// Who asks for an account of others without the role is on record by name, and nothing is done.
func TestEscrowIsRefusedOnRecord(t *testing.T) {
	f := newFixture(t, false)
	f.o.Escrow = noEscrow{t}
	for _, act := range []EscrowAct{EscrowCover, EscrowRequest, EscrowList, EscrowShare, EscrowApprove, EscrowRefuse, EscrowClose, EscrowExport, EscrowRecover} {
		for want, who := range map[mail.Kind]Caller{
			mail.AuthFailed: {System: "uid 0"}, mail.Denied: {System: "uid 0", Name: "postmaster", Password: "good"},
		} {
			if err := f.Escrow(t.Context(), who, act, EscrowQuery{ID: "1"}, strings.NewReader(""), io.Discard); err == nil || mail.KindOf(err) != want {
				t.Errorf("%s: %v", act, err)
			}
		}
	}
	refused := f.records(t, audit.AdminRefused)
	if len(refused) != 9 || !strings.Contains(refused[8], `"actor":"postmaster"`) || !strings.Contains(refused[8], `"outcome":"denied"`) || !strings.Contains(refused[8], "records") {
		t.Errorf("%d records of who was refused: %q", len(refused), refused)
	}
	// Nothing is done that cannot be put on record.
	f.o.Audit.Close()
	if err := f.Escrow(t.Context(), Caller{System: "uid 0", Name: "records", Password: "good"}, EscrowExport, EscrowQuery{ID: "1"}, nil, io.Discard); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("%v", err)
	}
}

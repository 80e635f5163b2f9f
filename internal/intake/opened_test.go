package intake

import (
	"strings"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

// The notice lies in the account that was opened, wherever the directory says that the owner's mail goes meanwhile.
func TestTellOpened(t *testing.T) {
	w := newWorld(t)
	account := w.principal("carol").Account
	o := Opened{Account: account, MessageID: "n1@mail.gov.example", At: time.Now(), Case: "LD/1", Requester: "records", Contact: mail.MustParseAddress("postmaster@works.gov.example")}
	for _, address := range []string{"carol@health.gov.example", "carol@example.org"} {
		w.change("dn: uid=carol,ou=people," + base + "\nchangetype: modify\nreplace: mail\nmail: " + address + "\n-\n")
		before := len(w.shelf.got)
		if err := w.in.TellOpened(t.Context(), o); err != nil || len(w.shelf.got) != before+1 {
			t.Errorf("%s: %v", address, err)
			continue
		}
		d := w.last()
		b := d.Bodies[0]
		if !d.Must || len(b.Queue) != 0 || len(b.Entries) != 1 || b.Entries[0].Account != account || !strings.Contains(string(b.Data), "\r\nMessage-ID: <n1@mail.gov.example>\r\n") {
			t.Errorf("%s: %+v", address, d)
		}
	}
}

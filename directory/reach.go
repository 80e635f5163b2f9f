package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"

	"cmmpd/internal/mail"
)

// Reach sets Dial and StartTLS for the server at an LDAP URL (RFC 4516, scheme, host and
// port only): ldaps:// is TLS from the first byte, ldap:// is StartTLS before anything
// else. There is no way without TLS, and the server's certificate must name the host and
// come from one of the roots; nil: those of the system. The error is of kind Invalid.
func (o *Options) Reach(address string, roots *x509.CertPool) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return mail.E(mail.Invalid, "not an address such as ldaps://directory.example or ldap://directory.example:389", err)
	}
	conf := &tls.Config{ServerName: u.Hostname(), RootCAs: roots, MinVersion: tls.VersionTLS12}
	switch u.Scheme {
	case "ldaps":
		d := tls.Dialer{Config: conf}
		o.Dial = dialer(d.DialContext, u, "636")
	case "ldap":
		o.Dial, o.StartTLS = dialer((&net.Dialer{}).DialContext, u, "389"), conf
	default:
		return mail.E(mail.Invalid, fmt.Sprintf("%q is neither ldaps nor ldap", u.Scheme), nil)
	}
	return nil
}

func dialer(dial func(ctx context.Context, network, addr string) (net.Conn, error), u *url.URL, port string) func(context.Context) (net.Conn, error) {
	if u.Port() != "" {
		port = u.Port()
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	return func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", addr) }
}

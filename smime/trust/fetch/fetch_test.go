package fetch

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) (host string) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func client(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestFetch(t *testing.T) {
	asked := 0
	var host, other string
	other = serve(t, func(http.ResponseWriter, *http.Request) { asked++ })
	host = serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/list":
			_, _ = w.Write([]byte("list"))
		case "/echo":
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(append(b, r.Header.Get("Content-Type")...))
		case "/endless":
			for {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
					return
				}
			}
		case "/silent":
			<-r.Context().Done()
		case "/once":
			http.Redirect(w, r, "/list", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "http://"+other+"/", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	c := client(t, Options{Hosts: []string{host}, Internal: loopback, Timeout: 2 * time.Second})
	ctx := context.Background()
	for path, want := range map[string]string{
		"/list": "list", "/once": "list", "/endless": "", "/silent": "", "/loop": "", "/away": "", "/file": "", "/none": "",
	} {
		b, err := c.Get(ctx, "http://"+host+path, 1<<20)
		if string(b) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
	}
	if asked != 0 {
		t.Error("a host that is not allowed was asked")
	}
	if b, err := c.Post(ctx, "http://"+host+"/echo", "a/b", []byte("body "), 100); err != nil || string(b) != "body a/b" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := c.Get(ctx, "http://"+host+"/list", 3); err == nil {
		t.Error("more than allowed was read")
	}
	// The name is allowed, but it leads inside.
	c = client(t, Options{Hosts: []string{host, strings.Replace(host, "127.0.0.1", "localhost", 1)}})
	for _, h := range []string{host, strings.Replace(host, "127.0.0.1", "localhost", 1)} {
		if _, err := c.Get(ctx, "http://"+h+"/list", 100); err == nil || !strings.Contains(err.Error(), "internal address") {
			t.Errorf("%s: %v", h, err)
		}
	}
}

func TestAllowed(t *testing.T) {
	c := client(t, Options{Hosts: []string{"CRL.example", "ocsp.example:8080", "[2606:4700::1]:8080"}})
	for address, want := range map[string]bool{
		"http://crl.example/a.crl": true, "https://crl.EXAMPLE/a.crl": true, "http://crl.example:80/": true, "http://ocsp.example:8080/": true, "http://[2606:4700::1]:8080/": true, "http://[2606:4700::1]/": false,
		"http://crl.example:22/": false, "http://ocsp.example/": false, "ldap://crl.example/": false, "file:///etc/passwd": false,
		"http://crl.example@evil.example/": false, "http://evil.example/?crl.example": false, "http://crl.example.evil.example/": false,
		"//crl.example/": false, "http:///x": false, "http://%zz": false, "gopher://crl.example:80/": false, "": false,
	} {
		if got := c.Allowed(address) == nil; got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	for _, bad := range []string{"", "http://a", "a b", "a@b", ":80"} {
		if _, err := New(Options{Hosts: []string{bad}}); err == nil {
			t.Errorf("host %q", bad)
		}
	}
}

func TestPublic(t *testing.T) {
	for ip, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1": true, "203.198.1.1": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"0.0.0.0": false, "0.1.2.3": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, "192.0.0.8": false,
		"::1": false, "::": false, "fe80::1": false, "fc00::1": false, "ff02::1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
		"::127.0.0.1": false, "::10.0.0.1": false, "::ffff:0:10.0.0.1": false, "64:ff9b:1::a00:1": false, "2001:0:0a00:1::": false, "fec0::1": false,
		"2001:db8::1": false, "3fff::1": false, "5f00::1": false, "203.0.113.1": false, "2a00:1450::1": true,
	} {
		if got := public(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
	c := client(t, Options{})
	if c.control("tcp", "[::ffff:127.0.0.1]:80", nil) == nil || c.control("tcp", "nonsense", nil) == nil || c.control("tcp", "8.8.8.8:80", nil) != nil {
		t.Error("control")
	}
}

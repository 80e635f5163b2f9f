package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cmmpd/internal/mail"
)

// Client asks a running daemon over its Unix socket.
type Client struct {
	http *http.Client
	// Name and Password are the log-in that goes along; empty: none.
	Name, Password string
}

// Dial returns a Client of the daemon that listens at path, or an error if none does.
func Dial(path string) (*Client, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		short, done, err := shortPath(path)
		if err != nil {
			return nil, err
		}
		defer done()
		d := net.Dialer{Timeout: 5 * time.Second}
		return d.DialContext(ctx, "unix", short)
	}
	c, err := dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	c.Close()
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

// do asks, and hands a good answer to read.
func (c *Client) do(ctx context.Context, path string, form url.Values, body io.Reader, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cmmpd"+path+"?"+form.Encode(), body)
	if err != nil {
		return err
	}
	if c.Name != "" {
		req.SetBasicAuth(c.Name, c.Password)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the daemon: %w", errors.Unwrap(err))
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
		if err := read(res.Body); err != nil {
			return fmt.Errorf("reading the daemon's answer: %w", err)
		}
		return nil
	case http.StatusForbidden:
		return mail.E(mail.Denied, "only the daemon's own user and root may ask it", nil)
	}
	var f failure
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&f); err != nil {
		return fmt.Errorf("the daemon answers %s", res.Status)
	}
	return mail.E(f.Kind, f.Error, nil)
}

// Import is Service.Import.
func (c *Client) Import(ctx context.Context, ldif io.Reader) (res ImportResult, err error) {
	err = c.do(ctx, pathImport, nil, ldif, func(r io.Reader) error { return json.NewDecoder(r).Decode(&res) })
	return res, err
}

// ExportDirectory is Service.ExportDirectory.
func (c *Client) ExportDirectory(ctx context.Context, w io.Writer) error {
	return c.do(ctx, pathDirectory, nil, nil, copyTo(w))
}

// Check is Service.Check.
func (c *Client) Check(ctx context.Context, deep bool) (rep CheckReport, err error) {
	err = c.do(ctx, pathCheck, url.Values{"deep": {strconv.FormatBool(deep)}}, nil,
		func(r io.Reader) error { return json.NewDecoder(r).Decode(&rep) })
	return rep, err
}

func copyTo(w io.Writer) func(io.Reader) error {
	return func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	}
}

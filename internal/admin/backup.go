package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cmmpd/audit"
)

const (
	pathBackup       = "/v1/backup"
	pathBackupVerify = "/v1/backup/verify"
)

// BackupReport says what a backup holds that was read from its beginning to its end.
type BackupReport struct {
	Kind    string    `json:"kind"`
	Store   string    `json:"store"`
	Time    time.Time `json:"time"`
	Entries int       `json:"entries"`
	Bytes   int64     `json:"bytes"`
}

// Backup writes a part of the platform ("mail" or "vault"), sealed. Whoever may use the socket may ask: it is of no
// use without the keystore.
func (s *Service) Backup(ctx context.Context, who Caller, part string, w io.Writer) error {
	act, err := s.begin(ctx, audit.StoreBackup, "", who)
	if err != nil {
		return err
	}
	act.Detail("part", part)
	counted := &counter{w: w}
	err = s.o.Backup(ctx, part, counted)
	act.Detail("octets", strconv.FormatInt(counted.n, 10))
	return s.end(ctx, act, err)
}

// VerifyBackup reads a backup to its end.
func (s *Service) VerifyBackup(ctx context.Context, r io.Reader) (BackupReport, error) {
	return s.o.VerifyBackup(ctx, r)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func (s *Server) backup(w http.ResponseWriter, r *http.Request, who Caller) error {
	return s.service.Backup(r.Context(), who, r.FormValue("part"), w)
}

func (s *Server) verifyBackup(w http.ResponseWriter, r *http.Request, _ Caller) error {
	rep, err := s.service.VerifyBackup(r.Context(), r.Body)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(rep)
}

// Backup is Service.Backup.
func (c *Client) Backup(ctx context.Context, part string, w io.Writer) error {
	return c.do(ctx, pathBackup, url.Values{"part": {part}}, nil, func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// VerifyBackup is Service.VerifyBackup.
func (c *Client) VerifyBackup(ctx context.Context, backup io.Reader) (rep BackupReport, err error) {
	err = c.do(ctx, pathBackupVerify, nil, backup, func(r io.Reader) error { return json.NewDecoder(r).Decode(&rep) })
	return rep, err
}

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/netutil"

	"cmmpd/audit"
	"cmmpd/internal/durable"
)

// witnessConfig is the configuration of cmmpd audit witness. configs/witness.toml explains every key.
type witnessConfig struct {
	Listen  string `toml:"listen"`
	Name    string `toml:"name"`
	Key     string `toml:"key"`
	Dir     string `toml:"dir"`
	Copy    bool   `toml:"copy"`
	Clients string `toml:"client-ca"`
	TLS     struct {
		Certificate string `toml:"certificate"`
		Key         string `toml:"key"`
	} `toml:"tls"`
	Logs []struct {
		Key    string `toml:"key"`
		Origin string `toml:"origin"`
	} `toml:"logs"`
}

func loadWitnessConfig(path string) (*witnessConfig, error) {
	var c witnessConfig
	f, err := readTOML(path, &c)
	if err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		f.bad("listen", "%q is not an address and port: %v", c.Listen, err)
	}
	f.file("key", &c.Key)
	f.file("tls.certificate", &c.TLS.Certificate)
	f.file("tls.key", &c.TLS.Key)
	f.resolve("dir", &c.Dir)
	if c.Clients != "" {
		f.file("client-ca", &c.Clients)
	}
	if c.Copy && c.Clients == "" {
		f.bad("client-ca", "a copy of the log is taken from clients with a certificate only")
	}
	if len(c.Logs) == 0 {
		f.bad("logs", "no log to be watched is named")
	}
	for i := range c.Logs {
		f.file(fmt.Sprintf("logs[%d].key", i), &c.Logs[i].Key)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return &c, nil
}

// auditWitness is "cmmpd audit witness".
func auditWitness(args []string) error {
	fs := newFlags("audit witness", "--config FILE")
	path := fs.config()
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	cfg, err := loadWitnessConfig(*path)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	return runWitness(ctx, cfg, newLog("info"))
}

// What a witness bears. One request is small, and a log asks a few times a second.
const (
	witnessConns   = 256
	witnessTimeout = 30 * time.Second
)

// runWitness serves until ctx is done.
func runWitness(ctx context.Context, cfg *witnessConfig, log *slog.Logger) (err error) {
	w, conf, err := cfg.open(log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: w, TLSConfig: conf, ReadTimeout: witnessTimeout, WriteTimeout: witnessTimeout, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("ready", "listen", ln.Addr().String(), "witness", w.Key().Name(), "version", version())
	notifySystemd("READY=1")
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeTLS(netutil.LimitListener(ln, witnessConns), "", "") }()
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), witnessTimeout)
	defer cancel()
	err = srv.Shutdown(grace)
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// open reads what the configuration names.
func (c *witnessConfig) open(log *slog.Logger) (*audit.Witness, *tls.Config, error) {
	key, err := readEd25519(c.Key)
	if err != nil {
		return nil, nil, err
	}
	o := audit.WitnessOptions{Dir: c.Dir, Name: c.Name, Key: key, Copy: c.Copy, Log: log}
	for _, l := range c.Logs {
		pub, err := os.ReadFile(l.Key)
		if err != nil {
			return nil, nil, err
		}
		o.Logs = append(o.Logs, audit.WitnessedLog{Key: pub, Origin: l.Origin})
	}
	cert, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("server certificate: %w", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if c.Clients != "" {
		if conf.ClientCAs, err = readPool(c.Clients); err != nil {
			return nil, nil, err
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return nil, nil, err
	}
	w, err := audit.OpenWitness(o)
	return w, conf, err
}

// readPool reads authorities.
func readPool(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// readEd25519 reads a private key that nobody but its owner may read.
func readEd25519(path string) (ed25519.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a private key and can be read by others (mode %v): chmod go= it", path, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no Ed25519 key", path)
	}
	return key, nil
}

// auditWitnessKey is "cmmpd audit witness key": it makes the key of a witness.
func auditWitnessKey(args []string) error {
	fs := newFlags("audit witness key", "--name NAME FILE > PUBKEYFILE")
	name := fs.String("name", "", "the witness's `name`, such as auditor.example/witness; it cannot change later")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	path := fs.Arg(0)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is there already", path)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	k, err := audit.NewWitnessKey(*name, pub)
	if err != nil {
		return usageError{err}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(durable.OS{}, filepath.Clean(path), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	fmt.Println(k)
	return nil
}

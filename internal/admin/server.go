package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cmmpd/internal/mail"
)

// The paths of the socket's HTTP interface, and the header of a kind of error.
const (
	pathImport      = "/v1/directory/import"
	pathDirectory   = "/v1/directory/export"
	pathCheck       = "/v1/check"
	pathQueueList   = "/v1/queue/list"
	pathQueueChange = "/v1/queue/change"
	maxImport       = 1 << 30
)

// Server answers commands on the Unix socket. Only the daemon's own user and root may
// connect.
type Server struct {
	service *Service
	http    *http.Server
	ln      net.Listener
	path    string
}

// Listen opens the socket at path and takes the place of one that a dead daemon left.
func Listen(path string, s *Service) (*Server, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer done()
	if c, err := net.Dial("unix", short); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: a daemon answers on this socket already", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// The socket must never be open to others, not even for the moment before a chmod.
	old := syscall.Umask(0o177)
	ln, err := net.Listen("unix", short)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // its path may be short only for now
	srv := &Server{service: s, ln: ln, path: path}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathImport, srv.handle(srv.directoryImport))
	mux.HandleFunc("POST "+pathDirectory, srv.handle(srv.directoryExport))
	mux.HandleFunc("POST "+pathCheck, srv.handle(srv.check))
	mux.HandleFunc("POST "+pathExplain, srv.handle(srv.explain))
	mux.HandleFunc("POST "+pathKeyImport, srv.handle(srv.importKey))
	mux.HandleFunc("POST "+pathKeyAct, srv.handle(srv.keyAct))
	mux.HandleFunc("POST "+pathPlatformKeys, srv.handle(srv.platformKeys))
	mux.HandleFunc("POST "+pathRotate, srv.handle(srv.rotateKey))
	mux.HandleFunc("POST "+pathCompact, srv.handle(srv.compact))
	mux.HandleFunc("POST "+pathAuditExport, srv.handle(srv.auditExport))
	mux.HandleFunc("POST "+pathAuditForget, srv.handle(srv.auditForget))
	mux.HandleFunc("POST "+pathQueueList, srv.handle(srv.queueList))
	mux.HandleFunc("POST "+pathQueueChange, srv.handle(srv.queueChange))
	mux.HandleFunc("POST "+pathBackup, srv.handle(srv.backup))
	mux.HandleFunc("POST "+pathBackupVerify, srv.handle(srv.verifyBackup))
	mux.HandleFunc("POST "+pathRestore, srv.handle(srv.restore))
	mux.HandleFunc("POST "+pathEscrow, srv.handle(srv.escrow))
	srv.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ConnContext: peer}
	return srv, nil
}

// shortPath is a path for the socket that fits into a socket address (unix(7) allows 108
// bytes), valid until done is called.
func shortPath(path string) (short string, done func(), err error) {
	const most = 100
	if len(path) <= most {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

// Serve answers until Shutdown; then it returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown removes the socket and waits for running commands until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	return errors.Join(os.Remove(s.path), s.http.Shutdown(ctx))
}

type peerKey struct{}

// peer notes the user id at the other end of the socket.
func peer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// handle checks the peer, makes the Caller, and answers an error once, in one place.
func (s *Server) handle(f func(http.ResponseWriter, *http.Request, Caller) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(peerKey{}).(uint32)
		if !ok || uid != 0 && int(uid) != os.Geteuid() {
			http.Error(w, "", http.StatusForbidden)
			return
		}
		who := Caller{System: systemUser(int(uid))}
		who.Name, who.Password, _ = r.BasicAuth()
		out := &answer{ResponseWriter: w}
		err := f(out, r, who)
		if err == nil {
			return
		}
		if out.begun {
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(failure{Kind: mail.KindOf(err), Error: text(err)})
	}
}

// systemUser names the operating system's account in the audit record.
func systemUser(uid int) string { return "uid " + strconv.Itoa(uid) }

// answer knows whether something of the answer has gone out.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// failure is how an error travels over the socket.
type failure struct {
	Kind  mail.Kind `json:"kind"`
	Error string    `json:"error"`
}

// text is what whoever may use the socket is told: they run the machine, so the cause
// too.
func text(err error) string {
	var e *mail.Error
	if errors.As(err, &e) && e.Public != "" && e.Err == nil {
		return e.Public
	}
	return err.Error()
}

func (s *Server) directoryImport(w http.ResponseWriter, r *http.Request, who Caller) error {
	res, err := s.service.Import(r.Context(), who, http.MaxBytesReader(w, r.Body, maxImport))
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(res)
}

func (s *Server) directoryExport(w http.ResponseWriter, r *http.Request, who Caller) error {
	return s.service.ExportDirectory(r.Context(), who, w)
}

func (s *Server) check(w http.ResponseWriter, r *http.Request, who Caller) error {
	rep, err := s.service.Check(r.Context(), who, r.FormValue("deep") == "true")
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(rep)
}

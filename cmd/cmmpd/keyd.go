package main

import (
	"bytes"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/keyd"
	"cmmpd/internal/keys/shares"
	"cmmpd/internal/keys/token"
	"cmmpd/internal/mail"
)

// keydConfig is the configuration of cmmpd keyd. configs/keyd.toml explains every key.
type keydConfig struct {
	Socket    string     `toml:"socket"`
	Journal   string     `toml:"journal"`
	Group     string     `toml:"group"`
	Clients   []string   `toml:"clients"`
	Operators []string   `toml:"operators"`
	Deadline  duration   `toml:"deadline"`
	Unwraps   int        `toml:"unwraps-per-second"`
	Service   *keydToken `toml:"service"`
	Mail      *keydToken `toml:"mail"`

	group              int
	clients, operators []uint32
}

// keydToken is the token of a slot.
type keydToken struct {
	Module   string `toml:"module"`
	Token    string `toml:"token"`
	Serial   string `toml:"serial"`
	PINFile  string `toml:"pin-file"`
	Shares   string `toml:"shares"`
	Sessions int    `toml:"sessions"`
}

// credential begins a pin-file that systemd hands over (systemd.exec(5), LoadCredential).
const credential = "credential:"

func loadKeydConfig(path string) (*keydConfig, error) {
	c := keydConfig{Journal: "keyd.journal", Operators: []string{"root"}, Deadline: duration(10 * time.Second), Unwraps: 100}
	f, err := readTOML(path, &c)
	if err != nil {
		return nil, err
	}
	f.resolve("socket", &c.Socket)
	f.resolve("journal", &c.Journal)
	c.group = -1
	if c.Group != "" {
		if g, err := user.LookupGroup(c.Group); err != nil {
			f.bad("group", "%v", err)
		} else if c.group, err = strconv.Atoi(g.Gid); err != nil {
			f.bad("group", "%v", err)
		}
	}
	c.clients, c.operators = f.users("clients", c.Clients), f.users("operators", c.Operators)
	if len(c.clients) == 0 {
		f.bad("clients", "nobody may use keys")
	}
	if d := time.Duration(c.Deadline); d < time.Second || d > 12*time.Second {
		f.bad("deadline", "%v is not between 1s and 12s: the daemon waits for 15 seconds", d)
	}
	if c.Unwraps < 0 {
		f.bad("unwraps-per-second", "%d is negative", c.Unwraps)
	}
	if c.Service == nil && c.Mail == nil {
		f.bad("service", "neither [service] nor [mail] is there")
	}
	c.Service.check(f, "service")
	c.Mail.check(f, "mail")
	if err := f.err(); err != nil {
		return nil, err
	}
	return &c, nil
}

// users are the user IDs of names or numbers.
func (f *tomlFile) users(key string, names []string) (ids []uint32) {
	for _, name := range names {
		id := name
		if u, err := user.Lookup(name); err == nil {
			id = u.Uid
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			f.bad(key, "%q is not a user", name)
		}
		ids = append(ids, uint32(n))
	}
	return ids
}

func (t *keydToken) check(f *tomlFile, key string) {
	if t == nil {
		return
	}
	f.file(key+".module", &t.Module)
	if t.Token == "" {
		f.bad(key+".token", "must not be empty")
	}
	if name, ok := strings.CutPrefix(t.PINFile, credential); ok {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || strings.ContainsRune(name, '/') {
			f.bad(key+".pin-file", "%q: systemd gave no credentials", t.PINFile)
		}
		t.PINFile = filepath.Join(dir, name)
	}
	if t.PINFile != "" {
		f.file(key+".pin-file", &t.PINFile)
	}
	if t.Shares != "" {
		f.resolve(key+".shares", &t.Shares) // it need not be there yet
	}
	if t.Sessions < 0 || t.Sessions > 1000 {
		f.bad(key+".sessions", "%d is not between 0 and 1000", t.Sessions)
	}
}

// keydCommand is "cmmpd keyd".
func keydCommand(args []string) error {
	fs := newFlags("keyd", "--config FILE [--ask]")
	path := fs.config()
	ask := fs.Bool("ask", false, "ask on the terminal for the PINs that no pin-file holds; otherwise those slots are sealed")
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	cfg, err := loadKeydConfig(*path)
	if err != nil {
		return err
	}
	log := newLog("info")
	if err := lockMemory(); err != nil {
		log.Warn("memory is not locked: PINs may get to swap", "err", err)
	}
	ctx, stop := interruptible()
	defer stop()
	return runKeyd(ctx, cfg, *ask, log)
}

// runKeyd opens the tokens and serves until ctx is done.
func runKeyd(ctx context.Context, cfg *keydConfig, ask bool, log *slog.Logger) (err error) {
	slots, closeAll, err := cfg.slots(ask)
	defer func() { err = errors.Join(err, closeAll()) }()
	if err != nil {
		return err
	}
	journal, err := keys.OpenJournal(cfg.Journal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	ln, err := keyd.Listen(ctx, cfg.Socket, cfg.group)
	if err != nil {
		return err
	}
	s := keyd.NewServer(keyd.Options{
		Slots: slots, Clients: cfg.clients, Operators: cfg.operators, Deadline: time.Duration(cfg.Deadline), Unwraps: cfg.Unwraps, Journal: journal, Log: log,
		Hung: func(what string) {
			// The library cannot be interrupted: the service manager starts us again, which is the way out.
			log.Error("the token's library does not come back; ending", "in", what)
			os.Exit(70)
		},
	})
	log.Info("ready", "socket", cfg.Socket, "version", version(), "fips140", fips140.Enabled())
	notifySystemd("READY=1")
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	if err = s.Serve(ln); ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, s.Close())
}

// slots loads the libraries, each once.
func (c *keydConfig) slots(ask bool) (map[keys.Slot]keyd.Slot, func() error, error) {
	libraries := make(map[string]*token.Library)
	closeAll := func() error {
		var err error
		for _, l := range libraries {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	slots := make(map[keys.Slot]keyd.Slot)
	for name, t := range map[keys.Slot]*keydToken{keys.Service: c.Service, keys.Mail: c.Mail} {
		if t == nil {
			continue
		}
		l := libraries[t.Module]
		if l == nil {
			var err error
			if l, err = token.Load(t.Module); err != nil {
				return nil, closeAll, err
			}
			libraries[t.Module] = l
		}
		s := keyd.Slot{Token: l.Token(token.Options{Token: t.Token, Serial: t.Serial, Sessions: t.Sessions})}
		if t.Shares != "" {
			s.Shares = func() (*shares.Set, error) { return readShares(t.Shares) }
		}
		var err error
		switch {
		case t.PINFile != "":
			s.PIN, err = readPIN(t.PINFile)
		case ask:
			s.PIN, err = askPIN(fmt.Sprintf("PIN of the token %s, slot %s (密碼匙權杖 PIN)", t.Token, name))
		}
		if err != nil {
			return nil, closeAll, err
		}
		slots[name] = s
	}
	return slots, closeAll, nil
}

// readShares reads the public half of a parted PIN.
func readShares(path string) (*shares.Set, error) {
	b, err := durable.ReadFile(durable.OS{}, path, 64<<10)
	if errors.Is(err, os.ErrNotExist) {
		return nil, mail.E(mail.NotFound, "", fmt.Errorf("the PIN is not parted yet (cmmpd keys split): %w", err))
	} else if err != nil {
		return nil, err
	}
	return shares.ParseSet(b)
}

const maxPIN = 1000

// readPIN reads the first line of a file that nobody but its owner may read.
func readPIN(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a PIN and can be read by others (mode %v): chmod go= it", path, st.Mode().Perm())
	}
	return pinOf(f, path)
}

// pinOf is the first line.
func pinOf(r io.Reader, where string) ([]byte, error) {
	buf := make([]byte, maxPIN)
	n, err := io.ReadFull(r, buf)
	if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s holds no PIN: %w", where, err)
	}
	pin, _, _ := bytes.Cut(buf[:n], []byte("\n"))
	if pin = bytes.TrimRight(pin, "\r"); len(pin) == 0 {
		return nil, fmt.Errorf("%s holds no PIN", where)
	}
	return pin, nil
}

// askPIN asks on the terminal, without showing what is typed.
func askPIN(question string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no terminal to ask for the PIN on: %w", err)
	}
	defer tty.Close()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *state
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, &quiet); err != nil {
		return nil, err
	}
	fmt.Fprintf(tty, "%s: ", question)
	pin, err := readLine(tty)
	fmt.Fprintln(tty)
	return pin, errors.Join(err, unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, state))
}

// readLine reads a line, an octet at a time so that none is left in a buffer.
func readLine(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, maxPIN)
	for one := make([]byte, 1); len(line) < maxPIN; {
		if _, err := io.ReadFull(r, one); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			break
		}
		line = append(line, one[0])
	}
	if len(line) == 0 {
		return nil, errors.New("no PIN was given")
	}
	return line, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/keyd"
)

// keystoreConfig says where the platform's keys are.
type keystoreConfig struct {
	slotConfig
	Unwraps int            `toml:"unwraps-per-second"` // of files; keyd has its own
	Acts    string         `toml:"acts"`               // how much of keyd's journals is in the audit log
	Mail    mailSlotConfig `toml:"mail"`               // what differs for the mail slot
}

// mailSlotConfig says where the platform keys are, and where they were.
type mailSlotConfig struct {
	slotConfig
	Previous slotConfig `toml:"previous"`
}

// slotConfig says where the keys of a slot are.
type slotConfig struct {
	Kind   string `toml:"kind"`
	Path   string `toml:"path"`   // of kind file
	Socket string `toml:"socket"` // of kind pkcs11
}

// defaultUnwraps is how many account keys are opened in a second at most.
const defaultUnwraps = 100

const (
	fileKeystore  = "file"
	tokenKeystore = "pkcs11"
)

func (c *keystoreConfig) check(f *tomlFile) {
	c.slotConfig.check(f, "keystore")
	f.resolve("keystore.acts", &c.Acts)
	if c.Mail.Kind == "" {
		if c.Mail.Path != "" || c.Mail.Socket != "" {
			f.bad("keystore.mail.kind", "must be set where path or socket is")
		}
		c.Mail.slotConfig = c.slotConfig
	} else {
		c.Mail.check(f, "keystore.mail")
	}
	if c.Mail.Previous != (slotConfig{}) {
		c.Mail.Previous.check(f, "keystore.mail.previous")
		if c.Mail.Previous == c.Mail.slotConfig {
			f.bad("keystore.mail.previous", "is where the keys are now")
		}
	}
	if c.Unwraps < 0 {
		f.bad("keystore.unwraps-per-second", "%d is negative", c.Unwraps)
	}
}

func (c *slotConfig) check(f *tomlFile, key string) {
	switch c.Kind {
	case fileKeystore:
		f.file(key+".path", &c.Path)
	case tokenKeystore:
		f.resolve(key+".socket", &c.Socket)
	default:
		f.bad(key+".kind", "%q is not a kind of keystore; known are \"file\" and \"pkcs11\"", c.Kind)
	}
}

// of is where the keys of a slot are.
func (c *keystoreConfig) of(slot keys.Slot) slotConfig {
	if slot == keys.Mail {
		return c.Mail.slotConfig
	}
	return c.slotConfig
}

func (c slotConfig) open() (keys.Manager, error) {
	if c.Kind == tokenKeystore {
		return keyd.NewStore(keyd.NewClient(c.Socket)), nil
	}
	s, err := keys.OpenFile(c.Path)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	return s, nil
}

// open opens both slots, or connects to those who do.
func (c *keystoreConfig) open() (keys.Slots, error) {
	service, err := c.slotConfig.open()
	if err != nil {
		return keys.Slots{}, err
	}
	s := keys.Slots{Service: service, Mail: service}
	if c.Mail.slotConfig != c.slotConfig {
		if s.Mail, err = c.Mail.open(); err != nil {
			return keys.Slots{}, errors.Join(err, service.Close())
		}
	}
	if c.Mail.Previous != (slotConfig{}) {
		if s.Previous, err = c.Mail.Previous.open(); err != nil {
			s.Previous = nil
			return keys.Slots{}, errors.Join(fmt.Errorf("keystore.mail.previous: %w", err), s.Close())
		}
	}
	return s, nil
}

// keystoreFlags say where the keys are when no configuration does.
type keystoreFlags struct{ folder, keyd, keydMail string }

func (k *keystoreFlags) add(fs flags) {
	fs.StringVar(&k.keyd, "keyd", "", "`socket` of the cmmpd keyd that holds the tokens with the keys")
	fs.StringVar(&k.keydMail, "keyd-mail", "", "`socket` of the cmmpd keyd with the token of the slot mail, if that is another; the service keys may be in files then")
}

func (k *keystoreFlags) empty() bool { return *k == keystoreFlags{} }

// config is what the configuration says of such a keystore, whose folder, if one is needed, is by default the one given.
func (k *keystoreFlags) config(folder string) (c keystoreConfig) {
	if k.folder != "" {
		folder = k.folder
	}
	absolute := func(path string) string {
		if abs, err := filepath.Abs(path); err == nil {
			return abs
		}
		return path
	}
	c.slotConfig = slotConfig{Kind: fileKeystore, Path: folder}
	if k.keyd != "" {
		c.slotConfig = slotConfig{Kind: tokenKeystore, Socket: absolute(k.keyd)}
	}
	c.Unwraps = defaultUnwraps
	c.Mail.slotConfig = c.slotConfig
	if k.keydMail != "" {
		c.Mail.slotConfig = slotConfig{Kind: tokenKeystore, Socket: absolute(k.keydMail)}
	}
	return c
}

// tokenPrefix marks the name of a key in a token where the file of one could be.
const tokenPrefix = "token:"

// values are the lines of a new configuration.
func (k *keystoreFlags) values(values map[string]string) {
	c := k.config("keys/keystore")
	set := func(key string, s slotConfig) {
		values[key+".kind"], values[key+".path"], values[key+".socket"] = strconv.Quote(s.Kind), strconv.Quote(s.Path), strconv.Quote(s.Socket)
	}
	set("keystore", c.slotConfig)
	if c.Mail.slotConfig != c.slotConfig {
		set("keystore.mail", c.Mail.slotConfig)
	}
}

// inFiles says which slots anybody can use who reads the files.
func (c *keystoreConfig) inFiles() (slots []string) {
	for _, slot := range []keys.Slot{keys.Service, keys.Mail} {
		if c.of(slot).Kind == fileKeystore {
			slots = append(slots, string(slot))
		}
	}
	return slots
}

// slotState is how a slot is now.
func (p *platform) slotState(ctx context.Context, slot keys.Slot) keyd.SlotStatus {
	s, ok := p.keystore.Of(slot).(*keyd.Store)
	if !ok {
		return keyd.SlotStatus{State: keyd.Open}
	}
	st, err := s.Client().Status(ctx, slot)
	switch {
	case err != nil:
		return keyd.SlotStatus{State: keyd.Failed, Reason: err.Error()}
	case st.State == keyd.Absent:
		st.State, st.Reason = keyd.Failed, "keyd has no such slot"
	}
	return st
}

// statusTimeout is how long somebody who asks how we are waits for keyd.
const statusTimeout = 2 * time.Second

// keystoreHealth is what /readyz says of the keystore. The error is of a slot that should work and does not; a sealed one is no
// error: mail is taken and sent.
func (p *platform) keystoreHealth(ctx context.Context) (lines []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if in := p.cfg.Keystore.inFiles(); len(in) > 0 {
		lines = append(lines, "keystore: in files, for development only: "+strings.Join(in, ", "))
	}
	for _, slot := range []keys.Slot{keys.Service, keys.Mail} {
		switch st := p.slotState(ctx, slot); st.State {
		case keyd.Sealed:
			lines = append(lines, fmt.Sprintf("keystore: the slot %s is sealed", slot))
			if slot == keys.Service {
				err = errors.Join(err, errors.New("the service keys are sealed"))
			}
		case keyd.Failed:
			err = errors.Join(err, fmt.Errorf("the slot %s of the keystore cannot be used: %s", slot, st.Reason))
		}
	}
	return lines, err
}

// slotGauge is 1 if the slot is open, 0 if it is sealed, -1 if it cannot be used.
func (p *platform) slotGauge(slot keys.Slot) func() float64 {
	return func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
		defer cancel()
		switch p.slotState(ctx, slot).State {
		case keyd.Open:
			return 1
		case keyd.Sealed:
			return 0
		}
		return -1
	}
}

// watchEvery is how soon a change of a slot's state is seen.
const watchEvery = 5 * time.Second

// watchKeystore puts on record when slots are sealed and unsealed, and when their tokens go and come, until ctx is done.
func (p *platform) watchKeystore(ctx context.Context) {
	var slots []keys.Slot
	for _, slot := range []keys.Slot{keys.Service, keys.Mail} {
		if p.cfg.Keystore.of(slot).Kind == tokenKeystore {
			slots = append(slots, slot)
		}
	}
	acts := &keyActs{path: p.cfg.Keystore.Acts, audit: p.audit}
	told := ""
	was := make(map[keys.Slot]keyd.State)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for len(slots) > 0 {
		for _, slot := range slots {
			asked, cancel := context.WithTimeout(ctx, statusTimeout)
			st := p.slotState(asked, slot)
			cancel()
			if st.State == was[slot] || ctx.Err() != nil {
				continue
			}
			was[slot] = st.State
			p.log.Info("keystore", "slot", string(slot), "state", st.State.String(), "token", st.Token, "reason", st.Reason)
			p.audit.Note(audit.Event{Type: audit.KeystoreState, Subject: string(slot), Outcome: st.State.String(), Detail: map[string]string{"token": st.Token}})
		}
		words := ""
		if err := p.recordActs(ctx, acts); err != nil && ctx.Err() == nil {
			words = err.Error()
		}
		if words != told && words != "" {
			p.log.Error("what was done to keys is not in the audit log yet", "error", words)
		}
		told = words
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"

	"cmmpd/internal/admin"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/keyd"
	"cmmpd/internal/mail"
)

// keystoreOf are the flags that say which keystore a command is about: that of a configuration, or one without it.
type keystoreOf struct {
	config *string
	flags  keystoreFlags
}

func (f flags) keystore() *keystoreOf {
	k := &keystoreOf{config: f.String("config", "", "configuration `file` that names the keystore")}
	f.StringVar(&k.flags.folder, "keystore", "", "`folder` of a keystore of files")
	k.flags.add(f)
	return k
}

// open opens the keystore.
func (k *keystoreOf) open() (keys.Slots, error) {
	c, err := k.where()
	if err != nil {
		return keys.Slots{}, err
	}
	return c.open()
}

// where says where the keys are. Of the configuration only that is looked at: its other files may be missing yet, or not be for us to read.
func (k *keystoreOf) where() (keystoreConfig, error) {
	switch {
	case *k.config == "" && k.flags.empty():
		return keystoreConfig{}, usageError{errors.New("--config, --keyd or --keystore is missing")}
	case *k.config == "":
		return k.flags.config(""), nil
	case !k.flags.empty():
		return keystoreConfig{}, usageError{errors.New("--config excludes --keyd, --keyd-mail and --keystore")}
	}
	c := defaultConfig()
	f, err := readTOML(*k.config, c)
	if err != nil {
		return keystoreConfig{}, err
	}
	c.Keystore.check(f)
	return c.Keystore, f.err()
}

// keysList is "cmmpd keys list".
func keysList(args []string) error {
	fs := newFlags("keys list", "--config FILE | --keyd SOCKET | --keystore DIR")
	where := fs.keystore()
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	store, err := where.open()
	if err != nil {
		return err
	}
	defer store.Close()
	var failed error
	for _, slot := range []keys.Slot{keys.Service, keys.Mail} {
		list, err := store.List(slot)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("slot %s: %w", slot, err))
			continue
		}
		for _, k := range list {
			state := "in use"
			if k.Retired {
				state = "retired"
			}
			print := "-"
			if len(k.Public) > 0 {
				print = fmt.Sprintf("%x", sha256.Sum256(k.Public))
			}
			fmt.Printf("%s\t%s\t%s\t%s\t%s\n", slot, k.Name, k.Kind, state, print)
		}
	}
	return failed
}

// kinds are the kinds that can be made.
func kinds() []keys.Kind {
	return []keys.Kind{keys.KindAES256, keys.KindHMAC256, keys.KindEd25519, keys.KindP256, keys.KindP384, keys.KindRSA2048, keys.KindRSA3072}
}

// slot reads a slot.
func (f flags) slot(def keys.Slot) *keys.Slot {
	slot := def
	f.Func("slot", fmt.Sprintf("`slot`: service or mail (default %s)", def), func(s string) error {
		if slot = keys.Slot(s); slot != keys.Service && slot != keys.Mail {
			return errors.New("neither service nor mail")
		}
		return nil
	})
	return &slot
}

// keysGenerate is "cmmpd keys generate".
func keysGenerate(args []string) error {
	fs := newFlags("keys generate", "--keyd SOCKET --platform\n       cmmpd keys generate --keyd SOCKET [--slot SLOT] --kind KIND NAME")
	where := fs.keystore()
	platform := fs.Bool("platform", false, "make those of the keys that a platform needs that are not there")
	slot := fs.slot(keys.Service)
	kind := fs.String("kind", "", fmt.Sprintf("`kind` of key: one of %v", kinds()))
	rest := 1
	if slices.Contains(args, "--platform") || slices.Contains(args, "-platform") {
		rest = 0
	}
	if err := fs.parse(args, rest); err != nil {
		return err
	}
	if !*platform && !slices.Contains(kinds(), keys.Kind(*kind)) {
		return usageError{fmt.Errorf("--kind %q is none of %v", *kind, kinds())}
	}
	if !*platform {
		_, err := where.act(admin.KeyAct{Op: admin.KeyGenerate, Slot: string(*slot), Name: fs.Arg(0), Kind: *kind})
		return err
	}
	store, err := where.open()
	if err != nil {
		return err
	}
	defer store.Close()
	return makePlatformKeys(store)
}

// keysRetire is "cmmpd keys retire".
func keysRetire(args []string) error {
	fs := newFlags("keys retire", "--config FILE | --keyd SOCKET [--slot SLOT] NAME")
	where := fs.keystore()
	slot := fs.slot(keys.Service)
	force := fs.Bool("force", false, "even a key without which mail, queue or backups cannot be read")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	name := fs.Arg(0)
	if *slot == keys.Mail && platformNumber(name) > 0 && !*force {
		if *where.config == "" {
			return fmt.Errorf("whether accounts are under mail/%s only their store knows: give --config, or --force", name)
		}
		cfg, err := loadConfig(*where.config)
		if err != nil {
			return err
		}
		ctx, stop := interruptible()
		defer stop()
		if err := unneeded(ctx, cfg, name); err != nil {
			return err
		}
	}
	if needed := *slot == keys.Service && (name == "store" || name == "blind"); needed && !*force {
		return fmt.Errorf("without %s/%s what is stored cannot be read; --force retires it all the same", *slot, name)
	}
	_, err := where.act(admin.KeyAct{Op: admin.KeyRetire, Slot: string(*slot), Name: name})
	return err
}

// keysUnretire is "cmmpd keys unretire".
func keysUnretire(args []string) error {
	fs := newFlags("keys unretire", "--config FILE | --keyd SOCKET [--slot SLOT] \"retired TIME NAME\"")
	where := fs.keystore()
	slot := fs.slot(keys.Service)
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	_, err := where.act(admin.KeyAct{Op: admin.KeyUnretire, Slot: string(*slot), Name: fs.Arg(0)})
	return err
}

// keysRequest is "cmmpd keys request": a certificate request (PKCS #10), signed by the key.
func keysRequest(args []string) error {
	fs := newFlags("keys request", "--keyd SOCKET [--name CN] [--address ADDRESS | --host NAME] KEY > FILE")
	where := fs.keystore()
	cn := fs.String("name", "", "common `name` of the certificate")
	address := fs.String("address", "", "mail `address` in it, such as domain-signing-authority@works.gov.example")
	hostName := fs.String("host", "", "host `name` in it")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	a := admin.KeyAct{Op: admin.KeyRequest, Slot: string(keys.Service), Name: fs.Arg(0), CommonName: *cn, Host: *hostName}
	if *address != "" {
		parsed, err := mail.ParseAddress(*address)
		if err != nil {
			return usageError{fmt.Errorf("--address: %w", err)}
		}
		a.Address = parsed.String()
	}
	request, err := where.act(a)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(request)
	return err
}

// client asks the keyd of a slot.
func (k *keystoreOf) client(slot keys.Slot) (*keyd.Client, error) {
	c, err := k.where()
	if err != nil {
		return nil, err
	}
	s := c.of(slot)
	if s.Kind != tokenKeystore {
		return nil, fmt.Errorf("the slot %s is in files, which are never sealed", slot)
	}
	return keyd.NewClient(s.Socket), nil
}

// unseal is "cmmpd unseal".
func unseal(args []string) error {
	fs := newFlags("unseal", "--config FILE | --keyd SOCKET [--slot SLOT] [--pin-file FILE | --share FILE | --ask-share]")
	where := fs.keystore()
	slot := fs.slot(keys.Mail)
	file := fs.String("pin-file", "", "`file` with the token's PIN; otherwise it is asked for")
	share := fs.String("share", "", "`file` with an officer's share, decrypted; - for standard input")
	askShare := fs.Bool("ask-share", false, "ask for an officer's share on the terminal")
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	c, err := where.client(*slot)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := interruptible()
	defer stop()
	if *share != "" || *askShare {
		return bringShare(ctx, c, *slot, *share)
	}
	st, err := c.Status(ctx, *slot)
	if err != nil {
		return err
	}
	if st.State == keyd.Open {
		fmt.Fprintf(os.Stderr, "the slot %s is open\n", *slot)
		return nil
	}
	var pin []byte
	if *file != "" {
		pin, err = readPIN(*file)
	} else {
		pin, err = askPIN(fmt.Sprintf("PIN of the token %s, slot %s (密碼匙權杖 PIN)", st.Token, *slot))
	}
	if err != nil {
		return err
	}
	defer clear(pin)
	if err := c.Unseal(ctx, *slot, pin); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "the slot %s is open (已解封)\n", *slot)
	return nil
}

// seal is "cmmpd seal".
func seal(args []string) error {
	fs := newFlags("seal", "--config FILE | --keyd SOCKET [--slot SLOT]")
	where := fs.keystore()
	slot := fs.slot(keys.Mail)
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	c, err := where.client(*slot)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := interruptible()
	defer stop()
	if err := c.Seal(ctx, *slot); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "the slot %s is sealed (已封存); accounts that are open now stay so until their sessions end\n", *slot)
	return nil
}

// Command cmmpd is a government's centrally managed messaging platform in one program.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"cmmpd/internal/admin"
)

// command is one subcommand. Results go to stdout, words to stderr.
type command struct {
	name, help string
	run        func(args []string) error
}

func commands() []command {
	return []command{
		{"demo", "build a demonstration, walk through the main job, and serve it", demo},
		{"init", "make a real installation: configuration, keys, first officers", initialise},
		{"serve", "run the platform", serve},
		{"keyd", "hold the tokens: the only process that loads PKCS #11 libraries and knows PINs", keydCommand},
		{"unseal", "open the token with the platform key: mail can be read then", unseal},
		{"seal", "close it: mail is taken and sent, not read", seal},
		{"keys list", "list the keys of the keystore", keysList},
		{"keys generate", "make a key in the keystore", keysGenerate},
		{"keys rotate", "have accounts' keys be wrapped by a new platform key, in the background", keysRotate},
		{"keys retire", "take a key out of use", keysRetire},
		{"keys unretire", "bring a retired key back into use", keysUnretire},
		{"keys split", "give a token a new PIN that only several officers together have", keysSplit},
		{"keys request", "write a certificate request for a key", keysRequest},
		{"escrow status", "say whose keys the security officers keep", escrowStatusCommand},
		{"escrow cover", "have them keep every account's key", escrowCover},
		{"escrow request", "ask, under a case, that an account be opened", escrowRequestCommand},
		{"escrow list", "show what was asked, approved and opened", escrowList},
		{"escrow share", "take your part of a request, encrypted to you", escrowShare},
		{"escrow decrypt", "open it with your own key", escrowDecrypt},
		{"escrow approve", "bring it", escrowApprove},
		{"escrow refuse", "refuse a request for good", escrowRefuse},
		{"escrow close", "end a request", escrowClose},
		{"escrow export", "write the mail of an account that was approved, encrypted", escrowExportCommand},
		{"escrow unpack", "open it with your own key", escrowUnpack},
		{"escrow recover", "wrap keys that were approved under the platform key of now", escrowRecoverCommand},
		{"config check", "check a configuration file", configCheck},
		{"store compact", "remove from the disk what was expunged, now", storeCompact},
		{"check", "check the store's invariants", check},
		{"directory import", "apply LDIF from stdin to the embedded directory", directoryImport},
		{"directory export", "write the embedded directory as LDIF to stdout", directoryExport},
		{"policy explain", "say what would become of a message, and why", policyExplain},
		{"queue list", "show the mail that waits to go to other domains", queueList},
		{"queue hold", "keep queued mail back until it is released", queueChange(admin.QueueHold)},
		{"queue release", "let go what is held, at once", queueChange(admin.QueueRelease)},
		{"queue retry", "try queued mail now instead of later", queueChange(admin.QueueRetry)},
		{"queue remove", "take mail out of the queue undelivered", queueChange(admin.QueueRemove)},
		{"backup", "write a sealed copy of everything into a folder, beside the daemon or without it", backupCommand},
		{"restore", "make a platform of a backup", restoreCommand},
		{"smime inspect", "say how a message is protected, and for whom", smimeInspect},
		{"smime certificate", "say whether a certificate may be used, step by step", smimeCertificate},
		{"smime history", "show which certificates mail was sealed to, from an exported audit log", smimeHistory},
		{"smime counts", "count a year's certificates by type", smimeCounts},
		{"smime seen", "show the certificates that came with good signatures", smimeSeen},
		{"smime signers", "show who signs for whom, and whether they can", smimeSigners},
		{"smime key import", "put a signing key into the keystore", smimeKeyImport},
		{"smime verify", "check a message's signature, step by step", smimeVerify},
		{"audit export", "write the audit log to stdout", auditExport},
		{"audit forget", "erase personal data beside the audit log", auditForget},
		{"audit witness key", "make the key of a witness of audit logs", auditWitnessKey},
		{"audit witness", "cosign audit logs as long as they only grow; for auditors, on a machine of theirs", auditWitness},
		{"audit compare", "say whether two checkpoints are of one audit log", auditCompare},
		{"audit verify", "verify an audit log, a copy of it, or an export bundle", auditVerify},
		{"version", "print the version", func(args []string) error {
			if err := newFlags("version", "").parse(args, 0); err != nil {
				return err
			}
			fmt.Println("cmmpd", version())
			return nil
		}},
	}
}

// usageError is wrong usage: exit code 2.
type usageError struct{ error }

// exitError asks for an exit code of its own.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

func main() {
	if err := hideProcess(); err != nil {
		fmt.Fprintf(os.Stderr, "cmmpd: %v\n", err)
	}
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run finds the command, runs it and turns its error into words and an exit code.
func run(args []string, words io.Writer) int {
	for _, c := range commands() {
		n := strings.Count(c.name, " ") + 1
		if len(args) < n || strings.Join(args[:n], " ") != c.name {
			continue
		}
		err := c.run(args[n:])
		var usage usageError
		var exit exitError
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.As(err, &usage):
			fmt.Fprintf(words, "cmmpd %s: %v\n", c.name, err)
			return 2
		case errors.As(err, &exit):
			fmt.Fprintf(words, "cmmpd %s: %v\n", c.name, err)
			return exit.code
		}
		fmt.Fprintf(words, "cmmpd %s: %v\n", c.name, err)
		return 1
	}
	help := len(args) == 1 && (args[0] == "help" || args[0] == "-h" || args[0] == "--help")
	if help {
		words = os.Stdout // it was asked for
	}
	fmt.Fprint(words, "cmmpd: the centrally managed messaging platform\n\nusage: cmmpd COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(words, "  %-18s %s\n", c.name, c.help)
	}
	fmt.Fprint(words, "\n\"cmmpd COMMAND -h\" shows a command's flags.\n")
	if help {
		return 0
	}
	if len(args) > 0 {
		fmt.Fprintf(words, "\ncmmpd: there is no command %q\n", strings.Join(args[:min(len(args), 2)], " "))
	}
	return 2
}

// version is the module's version as the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// flags is a flag set that reports wrong usage as usageError.
type flags struct{ *flag.FlagSet }

func newFlags(name, synopsis string) flags {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(os.Stderr)
	fs.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: cmmpd %s %s\n", name, synopsis)
		fs.PrintDefaults()
	}
	return flags{fs}
}

// config is the flag that most commands need.
func (f flags) config() *string { return f.String("config", "", configUsage) }

const configUsage = "configuration `file`"

// oneOrMore is for parse.
const oneOrMore = -1

// parse parses args, of which exactly rest must remain, or at least one. A --config that
// the command has must be given.
func (f flags) parse(args []string, rest int) error {
	f.SetOutput(io.Discard)
	err := f.Parse(args)
	f.SetOutput(os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		f.Usage()
		return err
	}
	if err != nil {
		return usageError{err}
	}
	if rest == oneOrMore && f.NArg() == 0 {
		f.Usage()
		return usageError{errors.New("an argument is missing")}
	}
	if rest != oneOrMore && f.NArg() != rest {
		f.Usage()
		return usageError{fmt.Errorf("%d arguments are given, %d wanted", f.NArg(), rest)}
	}
	if c := f.Lookup("config"); c != nil && c.Value.String() == "" && c.Usage == configUsage {
		f.Usage()
		return usageError{errors.New("--config is missing")}
	}
	return nil
}

// host is the address without the port.
func host(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return hostport
}

// configCheck is "cmmpd config check".
func configCheck(args []string) error {
	fs := newFlags("config check", "--config FILE")
	path := fs.config()
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	if err := errors.Join(cfg.tryTrust(), cfg.Escrow.tryNow(time.Now())); err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	fmt.Fprintf(os.Stderr, "%s is good\n", *path)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"cmmpd/audit"
)

// auditVerify is "cmmpd audit verify".
func auditVerify(args []string) error {
	fs := newFlags("audit verify", "--key PUBKEYFILE [--since CHECKPOINTFILE] [--witness-key FILE ... [--witnesses N] [--uncosigned N]] PATH")
	keyFile := fs.String("key", "", "`file` with the log's public key, as it was handed over")
	sinceFile := fs.String("since", "", "`file` with an earlier checkpoint, which the log must continue")
	var witnessFiles []string
	fs.Func("witness-key", "`file` with a witness's public key; may be given several times", func(s string) error {
		witnessFiles = append(witnessFiles, s)
		return nil
	})
	need := fs.Int("witnesses", -1, "how `many` of these witnesses must have cosigned; all of them if not given")
	behind := fs.Int64("uncosigned", -1, "how `many` records may have come after the checkpoint that they cosigned; any number if not given")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	if *keyFile == "" {
		fs.Usage()
		return usageError{errors.New("--key is missing")}
	}
	key, err := os.ReadFile(*keyFile)
	if err != nil {
		return usageError{err}
	}
	d := audit.Demand{Behind: *behind, Need: *need}
	if *sinceFile != "" {
		if d.Since, err = os.ReadFile(*sinceFile); err != nil {
			return usageError{err}
		}
	}
	for _, name := range witnessFiles {
		k, err := readWitnessKey(name)
		if err != nil {
			return usageError{err}
		}
		d.Witnesses = append(d.Witnesses, k)
	}
	switch {
	case d.Need < 0:
		d.Need = len(d.Witnesses)
	case d.Need > len(d.Witnesses):
		return usageError{fmt.Errorf("--witnesses %d, but only %d keys of witnesses are given", d.Need, len(d.Witnesses))}
	}
	text, err := verifyAudit(context.Background(), fs.Arg(0), key, d)
	if errors.Is(err, audit.ErrCannotOpen) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	fmt.Println(text)
	return nil
}

// readWitnessKey reads the public key of a witness.
func readWitnessKey(name string) (*audit.WitnessKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	k, err := audit.ParseWitnessKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

// verifyAudit verifies a log and says what was found.
func verifyAudit(ctx context.Context, path string, key []byte, d audit.Demand) (string, error) {
	r, err := audit.VerifyDemand(ctx, path, key, d)
	if err != nil {
		return "", err
	}
	if r.Part != nil {
		return partText(r), nil
	}
	text := fmt.Sprintf("good: %s, %d records in %d files, root %s", r.Origin, r.Records, r.Files, r.Root)
	if r.Records > 0 {
		text += fmt.Sprintf(", from %s to %s", r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339))
	}
	if d.Since != nil {
		text += fmt.Sprintf(", continuing the checkpoint of %d records", r.Since)
	}
	if len(r.Cosigners) > 0 {
		text += fmt.Sprintf("\ncosigned: the first %d records, by %s, on %s", r.Cosigned, strings.Join(r.Cosigners, ", "), r.CosignedFrom.Format(time.RFC3339))
		if n := r.Records - r.Cosigned; n > 0 {
			text += fmt.Sprintf("; the last %d are not cosigned yet", n)
		}
	}
	if r.StepsBack > 0 {
		text += fmt.Sprintf("\nremark: times step back by more than %v in %d places, the first at record %d; the log noticed a clock set back %d times", audit.BackTolerance, r.StepsBack, r.FirstStep, r.ClockRecords)
	}
	return text, nil
}

// auditCompare is "cmmpd audit compare".
func auditCompare(args []string) error {
	fs := newFlags("audit compare", "--key PUBKEYFILE CHECKPOINTFILE CHECKPOINTFILE [PATH]")
	keyFile := fs.String("key", "", "`file` with the log's public key, as it was handed over")
	if err := fs.parse(args, oneOrMore); err != nil {
		return err
	}
	if n := fs.NArg(); n != 2 && n != 3 || *keyFile == "" {
		fs.Usage()
		return usageError{errors.New("a key, two checkpoints and perhaps the log are needed")}
	}
	var files [3][]byte
	for i, name := range []string{*keyFile, fs.Arg(0), fs.Arg(1)} {
		var err error
		if files[i], err = os.ReadFile(name); err != nil {
			return usageError{err}
		}
	}
	c, err := audit.Compare(context.Background(), files[0], files[1], files[2], fs.Arg(2))
	if errors.Is(err, audit.ErrCannotOpen) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if !c.Decided {
		return usageError{fmt.Errorf("one checkpoint covers %d records, the other %d: the log (PATH) is needed to say whether they are of one log", c.Sizes[0], c.Sizes[1])}
	}
	fmt.Printf("good: %s, the checkpoints of %d and of %d records are of one log\n", c.Origin, c.Sizes[0], c.Sizes[1])
	return nil
}

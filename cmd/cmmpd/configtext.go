package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	sectionLine = regexp.MustCompile(`^\[([a-z0-9.-]+)\]`)
	keyLine     = regexp.MustCompile(`^([a-z0-9-]+) *= *("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s#]+)( *)(#.*)?$`)
)

// editConfig gives keys ("section.key") of a configuration's text other values, written as TOML, and leaves everything
// else as it is, comments included. Every key must stand in the text.
func editConfig(text string, values map[string]string) (string, error) {
	section, done := "", map[string]bool{}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			section = m[1]
			continue
		}
		m := keyLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		key := section + "." + m[1]
		value, ok := values[key]
		if !ok || done[key] {
			continue
		}
		done[key] = true
		edited := m[1] + " = " + value
		if m[4] != "" { // the comment stays in its column if there is room
			edited += strings.Repeat(" ", max(1, len(line)-len(m[4])-len(edited))) + m[4]
		}
		lines[i] = edited
	}
	for key := range values {
		if !done[key] {
			return "", fmt.Errorf("the configuration has no line for %s", key)
		}
	}
	return strings.Join(lines, "\n"), nil
}

var signerBlocks = regexp.MustCompile(`(?:\[\[smime\.signers\]\]\n(?:[a-z].*\n)+\n?)+`)

// replaceSigners puts other signers in the place of those in the text.
func replaceSigners(text string, signers []signerConfig) string {
	var b strings.Builder
	for _, s := range signers {
		fmt.Fprintf(&b, "[[smime.signers]]\ndomain = %q\ncertificate = %q\nkey = %q       # the key's name in the keystore\n\n", s.Domain, s.Certificate, s.Key)
	}
	if len(signers) == 0 {
		b.WriteString("# [[smime.signers]]\n# domain = \"works.gov.example\"\n# certificate = \"pki/gateway-works.gov.example.pem\"\n" +
			"# key = \"gateway/works.gov.example\"       # the key's name in the keystore\n\n")
	}
	at := signerBlocks.FindStringIndex(text)
	if at == nil {
		return text + "\n" + b.String()
	}
	return text[:at[0]] + b.String() + text[at[1]:]
}

// escrowBlocks are the officers who keep the accounts' keys, as a configuration has them.
func escrowBlocks(list []escrowOfficer) string {
	var b strings.Builder
	for _, o := range list {
		fmt.Fprintf(&b, "\n[[escrow.officers]]\nuid = %q\ncertificate = %q\n", o.UID, o.Certificate)
	}
	return b.String()
}

// tomlStrings is a list of strings as TOML.
func tomlStrings(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

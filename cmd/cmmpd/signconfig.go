package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/policy"
	"cmmpd/smime/cms"
)

// signRule says whose mail is signed for them: policy.SignRule.
type signRule struct {
	From   []string     `toml:"from"`
	Labels []mail.Label `toml:"labels"`
	By     string       `toml:"by"`
}

// keyConfig names the certificate and the key of one person or post, with which the gateway
// signs for them.
type keyConfig struct {
	Address     string `toml:"address"`
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
}

// signersBy are the words of the configuration.
var signersBy = map[string]policy.Signer{"department": policy.ByDepartment, "author": policy.ByAuthor}

// unlabelled stands in the configuration for mail without a label.
const unlabelled = "none"

// checkSigning looks at the rules and at the keys of people.
func (s *smimeConfig) checkSigning(f *tomlFile) {
	for i := range s.Keys {
		k, key := &s.Keys[i], fmt.Sprintf("smime.keys[%d]", i)
		f.file(key+".certificate", &k.Certificate)
		if _, err := mail.ParseAddress(k.Address); err != nil {
			f.bad(key+".address", "%q is not an address", k.Address)
		}
		if k.Key == "" {
			f.bad(key+".key", "must not be empty")
		}
	}
	for i, r := range s.Sign {
		key := fmt.Sprintf("smime.sign[%d]", i)
		if signersBy[r.By] == policy.ByNobody {
			f.bad(key+".by", "%q is neither \"department\" nor \"author\"", r.By)
		}
		for _, from := range r.From {
			at := from
			if !strings.Contains(from, "@") {
				at = "postmaster@" + from
			}
			a, err := mail.ParseAddress(at)
			if err != nil {
				f.bad(key+".from", "%q is neither an address nor a domain", from)
			} else if r.By == "department" && !s.hasSigner(a.Domain) {
				f.bad(key+".from", "nobody signs for %s: smime.signers has no such domain", a.Domain)
			}
		}
	}
}

func (s *smimeConfig) hasSigner(domain string) bool {
	for _, x := range s.Signers {
		if strings.EqualFold(x.Domain, domain) {
			return true
		}
	}
	return false
}

// rules are the rules as policy takes them.
func (s *smimeConfig) rules() []policy.SignRule {
	var out []policy.SignRule
	for _, r := range s.Sign {
		rule := policy.SignRule{By: signersBy[r.By]}
		for _, from := range r.From {
			if !strings.Contains(from, "@") {
				from = strings.ToLower(from)
			}
			rule.From = append(rule.From, from)
		}
		for _, l := range r.Labels {
			if l == unlabelled {
				l = ""
			}
			rule.Labels = append(rule.Labels, l)
		}
		out = append(out, rule)
	}
	return out
}

// keySource is what gives signing keys by name.
type keySource interface {
	Signer(ctx context.Context, slot keys.Slot, name string) (crypto.Signer, error)
}

// signer is a certificate with its key, which must belong together.
func signer(ctx context.Context, store keySource, certificate, name string) (cms.SignerSpec, error) {
	certs, err := readCertificates([]string{certificate})
	if err != nil {
		return cms.SignerSpec{}, err
	}
	key, err := store.Signer(ctx, keys.Service, name)
	if err != nil {
		return cms.SignerSpec{}, fmt.Errorf("the key %q: %w", name, err)
	}
	if !belongs(certs[0].PublicKey, key) {
		return cms.SignerSpec{}, fmt.Errorf("the key %q is not that of %s", name, certificate)
	}
	return cms.SignerSpec{Cert: certs[0], Key: key}, nil
}

func belongs(public crypto.PublicKey, key crypto.Signer) bool {
	p, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && p.Equal(public)
}

// signing are the domains' authorities and the keys of people, as the gateway asks for them.
func (s *smimeConfig) signing(ctx context.Context, store keySource) (domains func(string) (cms.SignerSpec, bool), own func(mail.Address) (cms.SignerSpec, bool), err error) {
	byDomain, byAddress := map[string]cms.SignerSpec{}, map[string]cms.SignerSpec{}
	var errs []error
	for _, c := range s.Signers {
		spec, err := signer(ctx, store, c.Certificate, c.Key)
		if err != nil {
			errs = append(errs, fmt.Errorf("who signs for %s: %w", c.Domain, err))
		}
		byDomain[c.Domain] = spec
	}
	for _, c := range s.Keys {
		spec, err := signer(ctx, store, c.Certificate, c.Key)
		if err != nil {
			errs = append(errs, fmt.Errorf("who signs for %s: %w", c.Address, err))
		}
		if a, err := mail.ParseAddress(c.Address); err == nil {
			byAddress[a.Key()] = spec
		}
	}
	domains = func(domain string) (cms.SignerSpec, bool) { s, ok := byDomain[domain]; return s, ok }
	own = func(a mail.Address) (cms.SignerSpec, bool) { s, ok := byAddress[a.Key()]; return s, ok }
	return domains, own, errors.Join(errs...)
}

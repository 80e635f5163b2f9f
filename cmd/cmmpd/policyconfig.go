package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cmmpd/internal/mail"
	"cmmpd/internal/policy"
	"cmmpd/smime/cms"
)

// policyConfig says which labels there are, what gives a message one, and what a label
// demands.
type policyConfig struct {
	Drafts         string             `toml:"drafts"`
	SoftRevocation []mail.Label       `toml:"soft-revocation"`
	LowerRoles     []string           `toml:"lower-roles"`
	ESSPolicy      string             `toml:"ess-policy"`
	Labels         []labelConfig      `toml:"labels"`
	Rules          []ruleConfig       `toml:"rules"`
	Departments    []departmentPolicy `toml:"departments"`
	Content        []contentConfig    `toml:"content"`
}

// labelConfig is one label of the registry, and the requirement of its own.
type labelConfig struct {
	Label          mail.Label `toml:"label"`
	Names          []string   `toml:"names"`
	Words          []string   `toml:"words"`
	Release        string     `toml:"release"`
	Classification int        `toml:"classification"`
	ESS            []string   `toml:"ess"`
	Color          string     `toml:"color"`
}

// ruleConfig is policy.ReleaseRule.
type ruleConfig struct {
	Labels       []mail.Label `toml:"labels"`
	Destinations []string     `toml:"destinations"`
	Clearance    string       `toml:"clearance"`
	Require      string       `toml:"require"`
}

// departmentPolicy is policy.Department.
type departmentPolicy struct {
	Domain string       `toml:"domain"`
	Labels []mail.Label `toml:"labels"`
	Plain  string       `toml:"plain"`
	Cipher string       `toml:"cipher"`
}

// contentConfig is policy.ContentRule.
type contentConfig struct {
	Name    string     `toml:"name"`
	Match   string     `toml:"match"`
	Pattern string     `toml:"pattern"`
	Label   mail.Label `toml:"label"`
}

// What a content rule can look for, besides a pattern.
var contentMatches = map[string]func([]byte) bool{"hkid": policy.HasIdentityCard, "card": policy.HasCardNumber}

const patternMatch = "pattern"

func (c *policyConfig) check(f *tomlFile, local []string) {
	if c.Drafts != string(policy.DraftsAtRest) && c.Drafts != string(policy.DraftsSeal) {
		f.bad("policy.drafts", "%q is neither \"at-rest\" nor \"seal\"", c.Drafts)
		return
	}
	before := len(f.errs)
	o := c.options(f, local)
	if len(f.errs) > before {
		return
	}
	p, err := policy.New(o)
	if err != nil {
		f.bad("policy", "%v", err)
		return
	}
	for _, l := range c.SoftRevocation {
		if p.Requires(l) >= policy.SMIME {
			f.bad("policy.soft-revocation", "%q demands S/MIME: such labels are never soft", l)
		}
	}
}

// options are what the policy is made of. What is wrong is noted in f.
func (c *policyConfig) options(f *tomlFile, local []string) policy.Options {
	o := policy.Options{Drafts: policy.Drafts(c.Drafts), ESSPolicy: c.ESSPolicy}
	if c.ESSPolicy != "" {
		if _, err := (&cms.SecurityLabel{Policy: cms.OID(c.ESSPolicy)}).DER(); err != nil {
			f.bad("policy.ess-policy", "%q is not an object identifier such as \"2.25.1\"", c.ESSPolicy)
		}
	}
	c.labels(f, &o)
	c.checkLabels(f, o.Labels)
	c.rules(f, &o, local)
	c.content(f, &o)
	return o
}

// checkLabels says which rule is for a label that there is not.
func (c *policyConfig) checkLabels(f *tomlFile, defs []policy.Definition) {
	if defs == nil {
		defs = policy.DefaultLabels()
	}
	check := func(key string, labels ...mail.Label) {
		for _, l := range labels {
			if !slices.ContainsFunc(defs, func(d policy.Definition) bool { return d.Label == l }) {
				f.bad(key, "%q is not one of the labels", l)
			}
		}
	}
	check("policy.soft-revocation", c.SoftRevocation...)
	for i, r := range c.Rules {
		check(fmt.Sprintf("policy.rules[%d].labels", i), r.Labels...)
	}
	for i, d := range c.Departments {
		check(fmt.Sprintf("policy.departments[%d].labels", i), d.Labels...)
	}
	for i, r := range c.Content {
		check(fmt.Sprintf("policy.content[%d].label", i), r.Label)
	}
}

func (c *policyConfig) labels(f *tomlFile, o *policy.Options) {
	if len(c.Labels) == 0 {
		return
	}
	o.Rules = map[mail.Label]policy.Requirement{}
	for i, l := range c.Labels {
		key := fmt.Sprintf("policy.labels[%d]", i)
		d := policy.Definition{Label: l.Label, Names: l.Names, Words: l.Words, Classification: l.Classification, Color: l.Color}
		for _, s := range l.ESS {
			id, number, found := strings.Cut(s, ":")
			n := policy.NoClassification
			if found {
				var err error
				if n, err = strconv.Atoi(number); err != nil || n < 0 {
					f.bad(key+".ess", "%q is not a policy and a classification such as \"1.2.3:4\"", s)
				}
			}
			d.Foreign = append(d.Foreign, policy.Foreign{Policy: id, Classification: n})
		}
		o.Labels = append(o.Labels, d)
		req, ok := policy.ParseRequirement(l.Release)
		if !ok {
			f.bad(key+".release", "%q is none of free, tls, smime, refuse", l.Release)
		}
		o.Rules[l.Label] = req
	}
}

func (c *policyConfig) rules(f *tomlFile, o *policy.Options, local []string) {
	if c.Rules != nil {
		o.Release = []policy.ReleaseRule{}
	}
	for i, r := range c.Rules {
		key := fmt.Sprintf("policy.rules[%d]", i)
		rule := policy.ReleaseRule{Labels: r.Labels, Clearance: policy.Clearance(r.Clearance)}
		var ok bool
		if rule.Require, ok = policy.ParseRequirement(r.Require); !ok || rule.Require == policy.Free {
			f.bad(key+".require", "%q is none of tls, smime, refuse", r.Require)
		}
		if r.Clearance != "" && r.Clearance != string(policy.BelowClearance) && r.Clearance != string(policy.NoClearance) {
			f.bad(key+".clearance", "%q is neither \"below\" nor \"none\"", r.Clearance)
		}
		for _, d := range r.Destinations {
			if d != policy.Here && d != policy.Elsewhere {
				d = f.domain(key+".destinations", d)
			}
			rule.Destinations = append(rule.Destinations, d)
		}
		o.Release = append(o.Release, rule)
	}
	for i, d := range c.Departments {
		key := fmt.Sprintf("policy.departments[%d]", i)
		if d.Domain != "*" {
			if d.Domain = f.domain(key+".domain", d.Domain); !slices.Contains(local, d.Domain) {
				f.bad(key+".domain", "%q is not one of domains.local", d.Domain)
			}
		}
		cipher, ok := policy.ParseCipher(d.Cipher)
		if !ok && d.Cipher != "" {
			f.bad(key+".cipher", "%q is none of any, oaep, gcm", d.Cipher)
		}
		if d.Plain != "" && d.Plain != "seal" && d.Plain != "refuse" {
			f.bad(key+".plain", "%q is neither \"seal\" nor \"refuse\"", d.Plain)
		}
		o.Departments = append(o.Departments, policy.Department{Domain: d.Domain, Labels: d.Labels, Refuse: d.Plain == "refuse", Cipher: cipher})
	}
}

func (c *policyConfig) content(f *tomlFile, o *policy.Options) {
	if c.Content != nil {
		o.Content = []policy.ContentRule{}
	}
	for i, r := range c.Content {
		key := fmt.Sprintf("policy.content[%d]", i)
		rule := policy.ContentRule{Name: r.Name, Label: r.Label, Match: contentMatches[r.Match]}
		switch {
		case r.Name == "":
			f.bad(key+".name", "must not be empty")
		case r.Match == patternMatch:
			match, err := policy.Pattern(r.Pattern)
			if err != nil {
				f.bad(key+".pattern", "%v", err)
			}
			rule.Match = match
		case rule.Match == nil:
			f.bad(key+".match", "%q is none of hkid, card, pattern", r.Match)
		case r.Pattern != "":
			f.bad(key+".pattern", "is for match = \"pattern\" only")
		}
		o.Content = append(o.Content, rule)
	}
}

// policy makes the policy of a configuration that was checked.
func (c *config) policy() (*policy.Policy, error) {
	f := &tomlFile{path: c.file}
	o := c.Policy.options(f, c.Domains.Local)
	if err := f.err(); err != nil {
		return nil, err
	}
	o.Sign = c.SMIME.rules()
	return policy.New(o)
}

// domain is a domain in lower case.
func (f *tomlFile) domain(key, d string) string {
	a, err := mail.ParseAddress("postmaster@" + d)
	if err != nil {
		f.bad(key, "%q is not a domain", d)
	}
	return a.Domain
}

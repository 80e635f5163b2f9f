package server

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"

	"cmmpd/directory/ldif"
)

//go:embed schema/*.ldif
var schemaFiles embed.FS

// attrType is one attribute type (RFC 4512, section 2.5.1).
type attrType struct {
	name        string // the canonical name
	oid         string
	super       *attrType
	rule        rule
	syntax      string
	single      bool
	noUserMod   bool
	operational bool
	binary      bool // transferred with the option ;binary (RFC 4522, 4523)
}

// isA says whether t is u or a subtype of it.
func (t *attrType) isA(u *attrType) bool {
	for ; t != nil; t = t.super {
		if t == u {
			return true
		}
	}
	return false
}

// objectClass is one object class (RFC 4512, section 2.4).
type objectClass struct {
	name       string
	super      []*objectClass
	structural bool
	must, may  []*attrType
}

// schema is what entries are checked by. It does not change after it is read.
type schema struct {
	attrs   map[string]*attrType    // by lower-case name and by OID
	classes map[string]*objectClass // likewise
	// text of the subschema entry
	attributeTypes, objectClasses [][]byte
}

// Syntaxes whose values are transferred with ;binary.
const (
	syntaxCertificate = "1.3.6.1.4.1.1466.115.121.1.8"
	syntaxIA5         = "1.3.6.1.4.1.1466.115.121.1.26"
	syntaxDN          = "1.3.6.1.4.1.1466.115.121.1.12"
)

func loadSchema() (*schema, error) {
	s := &schema{attrs: map[string]*attrType{}, classes: map[string]*objectClass{}}
	for _, name := range []string{"schema/core.ldif", "schema/cmmpd.ldif"} {
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := s.read(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return s, nil
}

func (s *schema) read(text []byte) error {
	r := ldif.NewReader(bytes.NewReader(text), ldif.Limits{})
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, v := range rec.Values {
			switch v.Desc {
			case "attributeTypes":
				s.attributeTypes = append(s.attributeTypes, v.Data)
				err = s.addAttr(string(v.Data))
			case "objectClasses":
				s.objectClasses = append(s.objectClasses, v.Data)
				err = s.addClass(string(v.Data))
			}
			if err != nil {
				return &ldif.Error{Line: v.Line, Text: err.Error()}
			}
		}
	}
}

// definition is a parsed attribute type or object class description: each keyword with
// its words (RFC 4512, section 4.1). The OID is under "".
type definition map[string][]string

func parseDefinition(text string) (definition, error) {
	d := definition{}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "(", " ( "), ")", " ) ")
	key, depth := "", 0
	for text = strings.TrimLeft(text, " "); text != ""; text = strings.TrimLeft(text, " ") {
		var word string
		if text[0] == '\'' {
			end := strings.IndexByte(text[1:], '\'')
			if end < 0 {
				return nil, errors.New("unclosed quote")
			}
			word, text = text[1:1+end], text[2+end:]
			d[key] = append(d[key], word)
			continue
		}
		word, text, _ = strings.Cut(text, " ")
		switch {
		case word == "(":
			depth++
		case word == ")":
			depth--
		case word == "$":
		case depth == 1 && keywords[word]:
			key = word
			d[key] = []string{}
		default:
			d[key] = append(d[key], word)
		}
	}
	if depth != 0 || len(d[""]) != 1 || len(d["NAME"]) == 0 {
		return nil, errors.New("not a schema description")
	}
	return d, nil
}

var keywords = map[string]bool{
	"NAME": true, "DESC": true, "SUP": true, "EQUALITY": true, "ORDERING": true, "SUBSTR": true, "SYNTAX": true, "SINGLE-VALUE": true,
	"NO-USER-MODIFICATION": true, "USAGE": true, "ABSTRACT": true, "STRUCTURAL": true, "AUXILIARY": true, "MUST": true, "MAY": true,
}

func (d definition) has(key string) bool { _, ok := d[key]; return ok }

func (d definition) first(key string) string {
	if len(d[key]) == 0 {
		return ""
	}
	return d[key][0]
}

func (s *schema) addAttr(text string) error {
	d, err := parseDefinition(text)
	if err != nil {
		return err
	}
	t := &attrType{
		name: d.first("NAME"), oid: d.first(""), syntax: d.first("SYNTAX"), single: d.has("SINGLE-VALUE"),
		noUserMod: d.has("NO-USER-MODIFICATION"), operational: d.has("USAGE"),
	}
	if sup := d.first("SUP"); sup != "" {
		if t.super = s.attrs[strings.ToLower(sup)]; t.super == nil {
			return errors.New("unknown supertype " + sup)
		}
		t.rule = t.super.rule
		if t.syntax == "" {
			t.syntax = t.super.syntax
		}
	}
	if eq := d.first("EQUALITY"); eq != "" {
		t.rule = ruleNamed(eq)
	}
	t.binary = t.syntax == syntaxCertificate || t.name == "userSMIMECertificate"
	for _, n := range append(d["NAME"], t.oid) {
		s.attrs[strings.ToLower(n)] = t
	}
	return nil
}

func (s *schema) addClass(text string) error {
	d, err := parseDefinition(text)
	if err != nil {
		return err
	}
	c := &objectClass{name: d.first("NAME"), structural: !d.has("ABSTRACT") && !d.has("AUXILIARY")}
	for _, sup := range d["SUP"] {
		p := s.classes[strings.ToLower(sup)]
		if p == nil {
			return errors.New("unknown superclass " + sup)
		}
		c.super = append(c.super, p)
	}
	for _, list := range []struct {
		names []string
		to    *[]*attrType
	}{{d["MUST"], &c.must}, {d["MAY"], &c.may}} {
		for _, n := range list.names {
			t := s.attrs[strings.ToLower(n)]
			if t == nil {
				return errors.New("unknown attribute " + n)
			}
			*list.to = append(*list.to, t)
		}
	}
	for _, n := range append(d["NAME"], d.first("")) {
		s.classes[strings.ToLower(n)] = c
	}
	return nil
}

// description is an attribute description: a type and options (RFC 4512, section 2.5).
type description struct {
	typ     *attrType
	options string // lower case, sorted, each with its ';'; without ;binary
}

// describe reads an attribute description. The option ;binary is accepted where the
// syntax knows it and is then the same as its absence.
func (s *schema) describe(desc string) (description, bool) {
	base, opts, more := strings.Cut(desc, ";")
	t := s.attrs[strings.ToLower(base)]
	if t == nil {
		return description{}, false
	}
	d := description{typ: t}
	if !more {
		return d, true
	}
	var list []string
	for o := range strings.SplitSeq(strings.ToLower(opts), ";") {
		if o == "" || strings.Trim(o, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return description{}, false
		}
		if o == "binary" {
			if !t.binary {
				return description{}, false
			}
			continue
		}
		list = append(list, o)
	}
	d.options = joinOptions(list)
	return d, true
}

func (d description) String() string {
	if d.typ.binary {
		return d.typ.name + ";binary" + d.options
	}
	return d.typ.name + d.options
}

// covers says whether a value stored under e answers a question about d: the same type
// or a subtype, with at least the options asked for.
func (d description) covers(e description) bool {
	if !e.typ.isA(d.typ) {
		return false
	}
	if d.options == "" || d.options == e.options {
		return true
	}
	for o := range strings.SplitSeq(d.options[1:], ";") {
		if !strings.Contains(e.options+";", ";"+o+";") {
			return false
		}
	}
	return true
}

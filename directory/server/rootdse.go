package server

import (
	"maps"
	"slices"
)

const subschemaDN = "cn=Subschema"

// rootDSE is the entry with the empty name: what this server can do (RFC 4512,
// section 5.1). It is all that one sees before binding.
func (s *Server) rootDSE(startTLS bool) *entry {
	ext := []string{oidWhoAmI}
	if startTLS {
		ext = append(ext, oidStartTLS)
	}
	return s.builtin("", map[string][]string{
		"objectClass":          {"top"},
		"namingContexts":       {s.o.BaseDN},
		"supportedLDAPVersion": {"3"},
		"supportedExtension":   ext,
		"supportedControl":     {oidPaged, oidManageDsaIT},
		"supportedFeatures":    {oidAllOpAttrs, oidTrueFalse},
		"vendorName":           {"cmmpd"},
	})
}

// subschema is the subschema entry (RFC 4512, section 4.2).
func (s *Server) subschema() *entry {
	e := s.builtin(subschemaDN, map[string][]string{"objectClass": {"top", "subschema"}, "cn": {"Subschema"}})
	for desc, values := range map[string][][]byte{"attributeTypes": s.st.schema.attributeTypes, "objectClasses": s.st.schema.objectClasses} {
		d, _ := s.st.schema.describe(desc)
		e.set(d, values)
	}
	return e
}

func (s *Server) builtin(dn string, attrs map[string][]string) *entry {
	n, err := s.st.schema.parseDN(dn)
	if err != nil {
		panic(err) // the names are constants above
	}
	e := &entry{dn: dn, key: n.key}
	for _, desc := range slices.Sorted(maps.Keys(attrs)) {
		d, _ := s.st.schema.describe(desc)
		for _, v := range attrs[desc] {
			e.set(d, append(e.values(d), []byte(v)))
		}
	}
	return e
}

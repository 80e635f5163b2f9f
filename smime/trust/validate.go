package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// handled are the extensions that crypto/x509 calls unhandled in some forms, and which
// we read ourselves.
var handled = []asn1.ObjectIdentifier{oidSAN, oidNameConstraints, oidCRLDP}

// errDates is a certificate above the leaf that is out of its dates, errPurpose one
// that may not be used for mail.
var (
	errDates   = errors.New("out of its dates")
	errPurpose = errors.New("the extended key usage does not allow mail")
)

// rules are what a path is held to, beside its own certificates.
type rules struct {
	now     time.Time
	mail    bool // the path must be good for mail, by extended key usage
	policy  policyInput
	minBits int
}

// validate holds a path, leaf first and anchor last, to RFC 5280, section 6.1.
// Signatures were checked when it was built, and revocation comes after. The result are
// the policies under which it holds. A path of the anchor alone holds.
//
// Beyond the RFC, an anchor is held to its own dates, constraints and key usage too, and
// extended key usages of authorities limit what is below them, as crypto/x509 does it.
func validate(path []*x509.Certificate, r rules) ([]string, error) {
	n := len(path) - 1
	if n == 0 {
		return nil, errorOf(path[0], plausible(path[0], r))
	}
	limits := constraints{budget: maxComparisons}
	policy := newPolicies(r.policy, n)
	pathLen := n
	for i := n; i >= 0; i-- {
		c := path[i]
		selfIssued := sameName(c.RawSubject, c.RawIssuer)
		if err := plausible(c, r); err != nil {
			return nil, errorOf(c, err)
		}
		if i < n {
			if !selfIssued || i == 0 {
				if err := limits.check(c); err != nil {
					return nil, errorOf(c, err)
				}
			}
			if err := policy.next(c, selfIssued); err != nil {
				return nil, errorOf(c, err)
			}
		}
		if i == 0 {
			break
		}
		if err := authority(c); err != nil {
			return nil, errorOf(c, err)
		}
		if i < n && !selfIssued {
			if pathLen == 0 {
				return nil, errorOf(c, errors.New("an authority above allows no further authority"))
			}
			pathLen--
		}
		if c.MaxPathLen > 0 || c.MaxPathLen == 0 && c.MaxPathLenZero {
			pathLen = min(pathLen, c.MaxPathLen)
		}
		if err := limits.add(c); err != nil {
			return nil, errorOf(c, err)
		}
	}
	return policy.wrapUp()
}

func errorOf(c *x509.Certificate, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", nameOf(c), err)
}

func inDates(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%w: expired %s", errDates, day(c.NotAfter))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%w: valid only from %s", errDates, day(c.NotBefore))
	}
	return nil
}

// plausible holds any certificate of a path to what needs no other.
func plausible(c *x509.Certificate, r rules) error {
	if err := inDates(c, r.now); err != nil {
		return err
	}
	if err := checkKey(c, r.minBits); err != nil {
		return err
	}
	for _, oid := range c.UnhandledCriticalExtensions {
		if !slices.ContainsFunc(handled, oid.Equal) {
			return fmt.Errorf("unknown critical extension %s", oid)
		}
	}
	if r.mail && !forMail(c) {
		return errPurpose
	}
	return nil
}

// forMail: emailProtection, any purpose, or none stated (RFC 8550, section 4.4.4).
func forMail(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageEmailProtection)
}

// authority says whether c may issue certificates.
func authority(c *x509.Certificate) error {
	switch {
	case c.Version < 3:
		return errors.New("an authority's certificate of an old version")
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("not an authority")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key may not sign certificates")
	}
	return nil
}

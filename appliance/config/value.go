package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Addr is an IP address; zero if the key was not given.
type Addr struct{ netip.Addr }

// UnmarshalText reads an IPv4 or IPv6 address without zone.
func (a *Addr) UnmarshalText(b []byte) error {
	addr, err := parseAddr(string(b))
	if err != nil {
		return err
	}
	a.Addr = addr
	return nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is no IP address; give one such as 192.168.1.1 or 2001:db8::1", s)
	case a.Zone() != "":
		return a, fmt.Errorf("%q names a zone; leave out %%%s, the interface is known", s, a.Zone())
	case a.Is4In6():
		return a, fmt.Errorf("%q is a mapped address; write it as %v", s, a.Unmap())
	}
	return a, nil
}

// Prefix is an address together with the length of its network's prefix, as
// an interface has it: 192.168.1.2/24. It is not masked.
type Prefix struct{ netip.Prefix }

// UnmarshalText reads ADDRESS/LENGTH.
func (p *Prefix) UnmarshalText(b []byte) error {
	s := string(b)
	addr, _, found := strings.Cut(s, "/")
	if !found {
		if a, err := parseAddr(s); err == nil {
			example := 24
			if a.Is6() {
				example = 64
			}
			return fmt.Errorf("%q has no prefix length; write it with that of its subnet, such as %v/%d", s, a, example)
		}
		return fmt.Errorf("%q is no address with a prefix length; give one such as 192.168.1.2/24", s)
	}
	if _, err := parseAddr(addr); err != nil {
		return err
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q has a bad prefix length; IPv4 has 0 to 32, IPv6 0 to 128", s)
	}
	p.Prefix = prefix
	return nil
}

// Network is a network, or one host as the network of all its bits.
type Network struct{ netip.Prefix }

// UnmarshalText reads an address or a network without host bits.
func (n *Network) UnmarshalText(b []byte) error {
	prefix, err := parseNetwork(string(b))
	if err != nil {
		return err
	}
	n.Prefix = prefix
	return nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := parseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	var p Prefix
	if err := p.UnmarshalText([]byte(s)); err != nil {
		return netip.Prefix{}, err
	}
	if p.Masked() != p.Prefix {
		return netip.Prefix{}, fmt.Errorf("%q has host bits; write %v for the network or %v for the host", s, p.Masked(), p.Addr())
	}
	return p.Prefix, nil
}

// MAC is an Ethernet address; zero if the key was not given.
type MAC [6]byte

// UnmarshalText reads six hexadecimal bytes with colons or dashes between.
func (m *MAC) UnmarshalText(b []byte) error {
	s := string(b)
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '-' })
	if len(parts) != len(m) || len(s) != 3*len(m)-1 {
		return fmt.Errorf("%q is no MAC address; give six bytes such as 02:00:00:12:34:56", s)
	}
	var mac MAC
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(part) != 2 {
			return fmt.Errorf("%q is no MAC address; give six bytes such as 02:00:00:12:34:56", s)
		}
		mac[i] = byte(n)
	}
	switch {
	case mac == MAC{}:
		return fmt.Errorf("%q is the zero address; leave mac out to have one made", s)
	case mac[0]&1 != 0:
		return fmt.Errorf("%q is a group address; an interface needs one whose first byte is even", s)
	}
	*m = mac
	return nil
}

// String writes m with colons.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Duration is a length of time; zero if the key was not given.
type Duration struct{ time.Duration }

const day = 24 * time.Hour

// UnmarshalText reads numbers with units: "90s", "1h30m", "2d".
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	text, days := s, time.Duration(0)
	if head, tail, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(head, 10, 16)
		if err != nil {
			return badDuration(s)
		}
		days, text = time.Duration(n)*day, tail
	}
	var rest time.Duration
	if text != "" || days == 0 {
		var err error
		if rest, err = time.ParseDuration(text); err != nil {
			return badDuration(s)
		}
	}
	if rest < 0 || days+rest < 0 {
		return fmt.Errorf("%q is negative; give a length of time such as \"30s\"", s)
	}
	d.Duration = days + rest
	return nil
}

func badDuration(s string) error {
	return fmt.Errorf("%q is no length of time; give a number with a unit, such as \"30s\", \"5m\", \"2h\" or \"1d\"", s)
}

// VHID is the number of a virtual host, 1 to 255; 0 if the key was not given.
type VHID struct {
	N    uint8
	Auto bool // "auto" was written; Load puts the number into N
}

// UnmarshalTOML reads a number or "auto".
func (v *VHID) UnmarshalTOML(raw any) error {
	switch x := raw.(type) {
	case int64:
		if x < 1 || x > 255 {
			return fmt.Errorf("%d is no vhid; give 1 to 255, or \"auto\"", x)
		}
		v.N = uint8(x)
		return nil
	case string:
		if x == "auto" {
			v.Auto = true
			return nil
		}
	}
	return fmt.Errorf("%v is no vhid; give 1 to 255, or \"auto\"", show(raw))
}

// Secret is a password or key. However it is printed, the text stays hidden.
type Secret struct{ text *string } // behind a pointer, which fmt does not follow inside a struct

const hidden = "***"

// NewSecret makes a secret of text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal is the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet says whether there is a secret, even an empty one.
func (s Secret) IsSet() bool { return s.text != nil }

func (Secret) String() string   { return hidden }
func (Secret) GoString() string { return hidden }

// MarshalText hides the text from JSON and TOML output too.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		return errors.New("the secret is empty; give some text")
	}
	*s = NewSecret(string(b))
	return nil
}

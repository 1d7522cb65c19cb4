package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// AssertFrom is where an asserted packet comes from: an interface and a source
// address, or the node itself.
type AssertFrom struct {
	Self      bool
	Interface string
	Source    netip.Addr
}

// UnmarshalText reads INTERFACE:ADDRESS or "self".
func (f *AssertFrom) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "self" {
		*f = AssertFrom{Self: true}
		return nil
	}
	name, addr, found := strings.Cut(s, ":")
	if !found || !isName(name) {
		return fmt.Errorf("%q says not where the packet comes from; give INTERFACE:ADDRESS such as lan:192.168.1.50, or \"self\"", s)
	}
	a, err := parseAddr(unbracket(addr))
	if err != nil {
		return err
	}
	*f = AssertFrom{Interface: name, Source: a}
	return nil
}

// String writes it as the file has it.
func (f AssertFrom) String() string {
	if f.Self {
		return "self"
	}
	return f.Interface + ":" + f.Source.String()
}

// AssertTo is what the asserted packet asks for.
type AssertTo struct {
	Protocol    Protocol
	Destination netip.Addr
	Port        uint16 // 0: the protocol has none
}

// Number is the protocol's number for the destination's family.
func (t AssertTo) Number() uint8 {
	if t.Destination.Is4() {
		return t.Protocol.V4[0]
	}
	return t.Protocol.V6[0]
}

// UnmarshalText reads PROTOCOL ADDRESS[:PORT]; an IPv6 address with a port
// stands in brackets.
func (t *AssertTo) UnmarshalText(b []byte) error {
	s := string(b)
	words := strings.Fields(s)
	if len(words) != 2 {
		return fmt.Errorf("%q says not what the packet asks for; give PROTOCOL ADDRESS[:PORT] such as \"tcp 198.51.100.1:443\"", s)
	}
	var to AssertTo
	if err := to.Protocol.UnmarshalTOML(words[0]); err != nil {
		return err
	}
	addr, port := splitPort(words[1])
	a, err := parseAddr(addr)
	if err != nil {
		return err
	}
	to.Destination = a
	numbers := to.Protocol.V6
	if a.Is4() {
		numbers = to.Protocol.V4
	}
	if len(numbers) != 1 {
		return fmt.Errorf("%q: %s is not one protocol for %v; name one, such as tcp", s, words[0], a)
	}
	switch {
	case to.Protocol.HasPorts() && port == "":
		return fmt.Errorf("%q has no port; write %s", s, netip.AddrPortFrom(a, 443))
	case !to.Protocol.HasPorts() && port != "":
		return fmt.Errorf("%q has a port, and %s has none; leave :%s out", s, words[0], port)
	case port != "":
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is no port; give 1 to 65535", port)
		}
		to.Port = uint16(n)
	}
	*t = to
	return nil
}

// splitPort cuts the port off "1.2.3.4:80" or "[2001:db8::1]:80". The port of
// a bare IPv6 address is empty.
func splitPort(s string) (addr, port string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") || strings.HasSuffix(s, "]") {
		return unbracket(s), ""
	}
	return unbracket(s[:i]), s[i+1:]
}

func unbracket(s string) string {
	if inner, found := strings.CutPrefix(s, "["); found {
		return strings.TrimSuffix(inner, "]")
	}
	return s
}

// String writes it as the file has it.
func (t AssertTo) String() string {
	switch {
	case t.Port == 0:
		return t.Protocol.String() + " " + t.Destination.String()
	default:
		return t.Protocol.String() + " " + netip.AddrPortFrom(t.Destination, t.Port).String()
	}
}

// AssertTarget is a translated address that an assert expects, "none", or
// nothing at all.
type AssertTarget struct {
	Set  bool
	None bool
	Addr netip.Addr
}

// UnmarshalText reads an address or "none".
func (t *AssertTarget) UnmarshalText(b []byte) error {
	if string(b) == "none" {
		*t = AssertTarget{Set: true, None: true}
		return nil
	}
	a, err := parseAddr(string(b))
	if err != nil {
		return fmt.Errorf("%w; or \"none\" for no translation", err)
	}
	*t = AssertTarget{Set: true, Addr: a}
	return nil
}

// String writes the target as the file has it.
func (t AssertTarget) String() string {
	if t.None {
		return "none"
	}
	return t.Addr.String()
}

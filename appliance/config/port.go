package config

import (
	"fmt"
	"strconv"
	"strings"
)

// PortRange is Low to High, both included; zero if the key was not given.
type PortRange struct{ Low, High uint16 }

// UnmarshalTOML reads a port, "a-b" or the name of a service.
func (r *PortRange) UnmarshalTOML(raw any) error {
	var t PortTerm
	if err := t.UnmarshalTOML(raw); err != nil {
		return err
	}
	if t.Name != "" {
		return fmt.Errorf("%q is no port; give a number, a range \"a-b\" or a service such as https", t.Name)
	}
	*r = t.PortRange
	return nil
}

// String writes the range as pf does.
func (r PortRange) String() string {
	if r.Low == r.High {
		return strconv.Itoa(int(r.Low))
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// Len is how many ports the range has.
func (r PortRange) Len() int { return int(r.High) - int(r.Low) + 1 }

// Port is one port; 0 if the key was not given.
type Port uint16

// UnmarshalTOML reads a port or the name of a service.
func (p *Port) UnmarshalTOML(raw any) error {
	var r PortRange
	if err := r.UnmarshalTOML(raw); err != nil {
		return err
	}
	if r.Low != r.High {
		return fmt.Errorf("%v is a range; give its first port, the others follow", r)
	}
	*p = Port(r.Low)
	return nil
}

// PortTerm is one word where ports can stand: a range, or the name of an
// alias. Names of services are ports already.
type PortTerm struct {
	PortRange
	Name string // of an alias; empty: the range
}

// UnmarshalTOML reads a number, "a-b", the name of a service or of an alias.
func (t *PortTerm) UnmarshalTOML(raw any) error {
	switch x := raw.(type) {
	case int64:
		if x < 1 || x > 65535 {
			return fmt.Errorf("%d is no port; give 1 to 65535", x)
		}
		*t = PortTerm{PortRange: PortRange{uint16(x), uint16(x)}}
		return nil
	case string:
		return t.parse(strings.TrimSpace(x))
	}
	return fmt.Errorf("%s is no port; give a number, a range \"a-b\", a service or an alias", show(raw))
}

func (t *PortTerm) parse(s string) error {
	if n, found := service(s); found {
		*t = PortTerm{PortRange: PortRange{n, n}}
		return nil
	}
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	if !startsWithDigit(low) || !startsWithDigit(high) {
		if !isName(s) {
			return fmt.Errorf("%q is no port; give a number, a range \"a-b\", a service or an alias", s)
		}
		*t = PortTerm{Name: s}
		return nil
	}
	a, errLow := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
	b, errHigh := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
	switch {
	case errLow != nil || errHigh != nil || a == 0 || b == 0:
		return fmt.Errorf("%q is no port; give 1 to 65535, or a range \"a-b\" of these", s)
	case b < a:
		return fmt.Errorf("%q runs backwards; write \"%d-%d\"", s, b, a)
	}
	*t = PortTerm{PortRange: PortRange{uint16(a), uint16(b)}}
	return nil
}

func startsWithDigit(s string) bool {
	s = strings.TrimSpace(s)
	return s != "" && s[0] >= '0' && s[0] <= '9'
}

// String writes the term as the file has it.
func (t PortTerm) String() string {
	if t.Name != "" {
		return t.Name
	}
	return t.PortRange.String()
}

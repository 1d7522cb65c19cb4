package carp

import (
	"net/netip"
	"testing"
)

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func signed(cfg KeyConfig) Advert {
	a := Encode(make([]byte, HeaderLen), cfg.VHID, 1, 0, 0)
	NewKey(cfg).Sign(a, 77)
	return a
}

func TestDiagnoseNamesTheDifference(t *testing.T) {
	ours := KeyConfig{VHID: 1, Password: `se"cret one`, Addresses: addrs("192.0.2.1", "192.0.2.7", "2001:db8::1", "2001:db8::2", "fe80::1")}
	with := func(change func(c *KeyConfig)) Advert {
		c := ours
		change(&c)
		return signed(c)
	}
	tests := []struct {
		name   string
		advert Advert
		want   Diagnosis
		addr   string
	}{
		{"another password", with(func(c *KeyConfig) { c.Password = "other" }), DiagnosisPassword, ""},
		{"one address missing there", with(func(c *KeyConfig) { c.Addresses = addrs("192.0.2.1", "2001:db8::1", "2001:db8::2", "fe80::1") }), DiagnosisMissing, "192.0.2.7"},
		{"missing there, and OpenBSD", with(func(c *KeyConfig) { c.Addresses = addrs("192.0.2.1", "2001:db8::1", "2001:db8::2") }), DiagnosisMissing, "192.0.2.7"},
		{"one more there, on this interface", with(func(c *KeyConfig) { c.Addresses = append(addrs("192.0.2.9"), c.Addresses...) }), DiagnosisExtra, "192.0.2.9"},
		{"one more there, unknown", with(func(c *KeyConfig) { c.Addresses = append(addrs("192.0.2.10"), c.Addresses...) }), DiagnosisPassword, ""},
		{"IPv4 only there", with(func(c *KeyConfig) { c.Addresses = addrs("192.0.2.1", "192.0.2.7") }), DiagnosisFamily, ""},
		{"password through a web page", with(func(c *KeyConfig) { c.Password = `se\"cretone` }), DiagnosisEscaped, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := NewKey(ours)
			if k.Verify(tt.advert) {
				t.Fatal("verifies")
			}
			got, addr := k.Diagnose(tt.advert, addrs("192.0.2.9", "192.0.2.7", "192.0.2.20"))
			if got != tt.want || tt.addr != "" && addr != netip.MustParseAddr(tt.addr) {
				t.Errorf("diagnosis %d %v, want %d %s", got, addr, tt.want, tt.addr)
			}
		})
	}
}

func TestLinkLocalMayBeLeftOut(t *testing.T) {
	full := KeyConfig{VHID: 1, Password: "p", Addresses: addrs("2001:db8::1", "fe80::1%eth0")}
	brief := full
	brief.OmitLinkLocal = true
	for _, ours := range []KeyConfig{full, brief} {
		for _, theirs := range []KeyConfig{full, brief} {
			if !NewKey(ours).Verify(signed(theirs)) {
				t.Errorf("ours %v theirs %v does not verify", ours.OmitLinkLocal, theirs.OmitLinkLocal)
			}
		}
	}
}

func TestAddressesThatAreNeverHashed(t *testing.T) {
	a := KeyConfig{VHID: 1, Addresses: addrs("192.0.2.1")}
	b := KeyConfig{VHID: 1, Addresses: addrs("0.0.0.0", "192.0.2.1", "255.255.255.255", "::ffff:192.0.2.1")}
	if !NewKey(a).Verify(signed(b)) || !NewKey(a).Same(b) {
		t.Error("they count")
	}
}

func TestVerifyDoesNotAllocate(t *testing.T) {
	cfg := KeyConfig{VHID: 1, Password: "p", Addresses: addrs("192.0.2.1", "fe80::1")}
	k, good, bad := NewKey(cfg), signed(cfg), signed(KeyConfig{VHID: 1})
	if n := testing.AllocsPerRun(100, func() {
		k.Verify(good)
		k.Verify(bad)
		k.Sign(good, 78)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

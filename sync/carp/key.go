package carp

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"net/netip"
	"slices"
	"strings"
)

// passwordBytesMax is what the BSDs keep of a password: ifconfig copies it
// into 20 bytes with a NUL at the end.
const passwordBytesMax = 19

// KeyConfig is what the digest of a vhid's adverts depends on. Prefix lengths,
// base, skew and demotion are not among it: whoever is on the segment can
// forge those.
type KeyConfig struct {
	VHID     uint8
	Password string // only the first 19 bytes count; "" is allowed
	// Addresses of both families in any order. Zones are ignored, duplicates
	// count once, 0.0.0.0 and 255.255.255.255 not at all.
	Addresses []netip.Addr
	// LinkAddr is hashed by an OpenBSD leader with a MAC address of its own
	// choosing; zero otherwise.
	LinkAddr [6]byte
	// OmitLinkLocal signs as OpenBSD does, without link-local addresses.
	// Adverts of either kind verify, whatever is set here.
	OmitLinkLocal bool
}

// Key signs and verifies the adverts of one vhid: HMAC-SHA1 (RFC 2104) with
// the password as key, over version, type, vhid, addresses and counter. It
// belongs to one goroutine.
type Key struct {
	cfg    KeyConfig
	addrs  []netip.Addr // as hashed: sorted, unique, without zones
	mac    hash.Hash
	full   []byte // message up to the counter, with all addresses
	brief  []byte // the same without link-local ones; nil: there are none
	digest [sha1.Size]byte
	tail   [8]byte // counter, kept here so that hashing it does not allocate
}

// NewKey prepares a key. It copies what it needs of cfg.
func NewKey(cfg KeyConfig) *Key {
	cfg.Addresses = slices.Clone(cfg.Addresses)
	k := &Key{cfg: cfg, addrs: hashOrder(cfg.Addresses), mac: hmac.New(sha1.New, hmacKey(cfg.Password))}
	k.full = message(cfg, k.addrs)
	if global := withoutLinkLocal(k.addrs); len(global) < len(k.addrs) {
		k.brief = message(cfg, global)
	}
	return k
}

// Same says whether cfg would make this key.
func (k *Key) Same(cfg KeyConfig) bool {
	return k.cfg.VHID == cfg.VHID && k.cfg.Password == cfg.Password && k.cfg.LinkAddr == cfg.LinkAddr &&
		k.cfg.OmitLinkLocal == cfg.OmitLinkLocal && slices.Equal(k.addrs, hashOrder(cfg.Addresses))
}

// Sign puts counter, digest and checksum into a; it is the last step before
// sending.
func (k *Key) Sign(a Advert, counter uint64) {
	binary.BigEndian.PutUint64(a[offCounter:], counter)
	msg := k.full
	if k.cfg.OmitLinkLocal && k.brief != nil {
		msg = k.brief
	}
	copy(a[offDigest:], k.sum(k.mac, msg, a))
	a.setChecksum()
}

// Verify says whether a was signed with this password over these addresses,
// with link-local ones counted (FreeBSD) or not (OpenBSD).
func (k *Key) Verify(a Advert) bool {
	return k.matches(k.mac, k.full, a) || k.brief != nil && k.matches(k.mac, k.brief, a)
}

func (k *Key) matches(mac hash.Hash, msg []byte, a Advert) bool {
	return subtle.ConstantTimeCompare(k.sum(mac, msg, a), a[offDigest:HeaderLen]) == 1
}

// sum returns a slice of k.digest, good until the next call.
func (k *Key) sum(mac hash.Hash, msg []byte, a Advert) []byte {
	copy(k.tail[:], a[offCounter:offDigest])
	mac.Reset()
	mac.Write(msg)
	mac.Write(k.tail[:])
	return mac.Sum(k.digest[:0])
}

// Diagnosis is why an advert does not verify, as far as it can be known.
type Diagnosis uint8

// The diagnoses.
const (
	// DiagnosisPassword: no variant of the address set helps, so it is the
	// password, an address we do not know of, or another group that uses the
	// same vhid on this segment.
	DiagnosisPassword Diagnosis = iota
	// DiagnosisMissing: the sender lacks one of our addresses.
	DiagnosisMissing
	// DiagnosisExtra: the sender has an address more than we.
	DiagnosisExtra
	// DiagnosisFamily: the sender hashes the addresses of one family only.
	DiagnosisFamily
	// DiagnosisEscaped: the sender applies the web interface's transformation
	// (spaces removed, quotes and backslashes escaped) to the password.
	DiagnosisEscaped
	// DiagnosisVHID: the sender uses our password and addresses with this
	// vhid, which we know by another number.
	DiagnosisVHID
)

// Diagnose says why a, which does not verify, may differ, and which address
// makes the difference where it is one. Nearby are addresses that the sender
// may have in the vhid and we not: others of the interface. It costs a digest
// for each address, so do not call it for every packet of a flood.
func (k *Key) Diagnose(a Advert, nearby []netip.Addr) (Diagnosis, netip.Addr) {
	try := func(addrs []netip.Addr) bool {
		return k.matches(k.mac, message(k.cfg, addrs), a) ||
			k.matches(k.mac, message(k.cfg, withoutLinkLocal(addrs)), a)
	}
	for i := range k.addrs {
		if try(slices.Delete(slices.Clone(k.addrs), i, i+1)) {
			return DiagnosisMissing, k.addrs[i]
		}
	}
	for _, addr := range nearby {
		if !slices.Contains(k.addrs, addr.WithZone("")) && try(hashOrder(append(slices.Clone(k.addrs), addr))) {
			return DiagnosisExtra, addr
		}
	}
	only4 := slices.DeleteFunc(slices.Clone(k.addrs), netip.Addr.Is6)
	only6 := slices.DeleteFunc(slices.Clone(k.addrs), netip.Addr.Is4)
	switch {
	case len(only4) > 0 && len(only6) > 0 && (try(only4) || try(only6)):
		return DiagnosisFamily, netip.Addr{}
	case k.verifiesAs(a, escapePassword(k.cfg.Password), k.cfg.VHID):
		return DiagnosisEscaped, netip.Addr{}
	}
	return DiagnosisPassword, netip.Addr{}
}

// IsRenumbered says whether a, which carries another vhid, was signed with
// this key's password and addresses: the sender has numbered our virtual host
// differently.
func (k *Key) IsRenumbered(a Advert) bool {
	return a.VHID() != k.cfg.VHID && k.verifiesAs(a, k.cfg.Password, a.VHID())
}

func (k *Key) verifiesAs(a Advert, password string, vhid uint8) bool {
	cfg := k.cfg
	cfg.VHID = vhid
	mac := hmac.New(sha1.New, hmacKey(password))
	return k.matches(mac, message(cfg, k.addrs), a) ||
		k.matches(mac, message(cfg, withoutLinkLocal(k.addrs)), a)
}

// hmacKey is 20 bytes although HMAC would zero-fill a shorter key alike: an
// empty password must work too.
func hmacKey(password string) []byte {
	key := make([]byte, passwordBytesMax+1)
	copy(key[:passwordBytesMax], password)
	return key
}

// escapePassword is what the pfSense and OPNsense pages make of a password
// before they configure it.
func escapePassword(password string) string {
	return strings.NewReplacer(" ", "", `\`, `\\`, `'`, `\'`, `"`, `\"`).Replace(password)
}

// hashOrder sorts as the kernels do: IPv4 before IPv6, each ascending.
func hashOrder(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, addr := range addrs {
		addr = addr.Unmap().WithZone("")
		if addr == netip.IPv4Unspecified() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || !addr.IsValid() {
			continue
		}
		out = append(out, addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func withoutLinkLocal(addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), isLinkLocal6)
}

// isLinkLocal6: IPv4's 169.254/16 is an address like any other here.
func isLinkLocal6(addr netip.Addr) bool { return addr.Is6() && addr.IsLinkLocalUnicast() }

// message is what is hashed, up to the counter.
func message(cfg KeyConfig, addrs []netip.Addr) []byte {
	msg := []byte{2, 1} // version and type, a byte each, whatever the packet says
	if cfg.LinkAddr != [6]byte{} {
		msg = append(msg, cfg.LinkAddr[:]...)
	}
	msg = append(msg, cfg.VHID)
	for _, addr := range addrs {
		b := addr.AsSlice()
		if isLinkLocal6(addr) {
			b[2], b[3] = 0, 0 // the kernel keeps the scope here
		}
		msg = append(msg, b...)
	}
	return msg
}

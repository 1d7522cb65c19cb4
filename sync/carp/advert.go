package carp

import (
	"encoding/binary"
	"errors"
	"time"
)

// HeaderLen is the size of an advertisement, after the IP header.
const HeaderLen = 36

const (
	// Protocol is the IP protocol number, which CARP shares with VRRP.
	Protocol = 112
	// TTL is the TTL or hop limit of every advert, and what a multicast
	// receiver insists on: it proves that no router was crossed.
	TTL = 255
	// TrafficClass is the ToS byte of adverts: DSCP 56, as on FreeBSD.
	TrafficClass = 0xe0
	// BowOut is base and skew of a farewell advert (OpenBSD): as slow as can
	// be said, so that every backup concludes that the master will time out.
	BowOut = 255
)

const versionType = 0x21 // version 2, type advertisement; receivers check the version alone

// authLen is the digest area in 32-bit words: counter and HMAC. Nobody checks it.
const authLen = 7

// Field offsets.
const (
	offVHID     = 1
	offAdvSkew  = 2
	offAuthLen  = 3
	offDemote   = 4
	offAdvBase  = 5
	offChecksum = 6
	offCounter  = 8
	offDigest   = 16
)

// Why bytes are no advertisement.
var (
	ErrShort    = errors.New("carp: short advertisement")
	ErrVersion  = errors.New("carp: bad version")
	ErrChecksum = errors.New("carp: bad checksum")
)

// Family is an IP version; adverts of each have their own timers.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Advert is a view of an advertisement: the bytes stay the caller's.
type Advert []byte

// ParseAdvert checks b, the whole payload of an IP packet, once, so that no
// accessor of the result can panic. The order of the checks is FreeBSD 15's,
// which decides what a faulty packet is counted as. The checksum is over all
// of b: a byte too many is a fault, as there. It does not authenticate.
func ParseAdvert(b []byte) (Advert, error) {
	switch {
	case len(b) < vrrpHeaderLen:
		return nil, ErrShort
	case b[0]>>4 != versionType>>4:
		return nil, ErrVersion
	case len(b) < HeaderLen:
		return nil, ErrShort
	case checksum(b, 0) != 0:
		return nil, ErrChecksum
	}
	return Advert(b[:HeaderLen:HeaderLen]), nil
}

// VHID is the number of the virtual host, 1 to 255 in any that can match.
func (a Advert) VHID() uint8 { return a[offVHID] }

// Base is the sender's interval in whole seconds.
func (a Advert) Base() uint8 { return a[offAdvBase] }

// Skew is what the sender adds to the interval, in 1/256 seconds.
func (a Advert) Skew() uint8 { return a[offAdvSkew] }

// Demote is OpenBSD's demotion count; zero from all others.
func (a Advert) Demote() uint8 { return a[offDemote] }

// Counter is the sender's replay counter. The BSDs and ucarp do not insist on
// its rising, and some send the same one all the time.
func (a Advert) Counter() uint64 { return binary.BigEndian.Uint64(a[offCounter:]) }

// Interval is how often the sender says it will advertise.
func (a Advert) Interval() time.Duration { return interval(a.Base(), a.Skew()) }

// IsBowOut says whether the sender announces that it leaves.
func (a Advert) IsBowOut() bool { return a.Base() == BowOut && a.Skew() == BowOut }

// Encode fills dst up to the counter and digest, which [Key.Sign] owns, and
// clears those, so that nothing left in dst leaks. Base is in seconds, skew in
// 1/256 seconds; demote is zero except towards OpenBSD. It panics if dst is
// short: that is the caller's mistake, never the network's.
func Encode(dst []byte, vhid, base, skew, demote uint8) Advert {
	a := Advert(dst[:HeaderLen:HeaderLen])
	clear(a)
	a[0], a[offVHID], a[offAdvSkew] = versionType, vhid, skew
	a[offAuthLen], a[offDemote], a[offAdvBase] = authLen, demote, base
	a.setChecksum()
	return a
}

func (a Advert) setChecksum() {
	binary.BigEndian.PutUint16(a[offChecksum:], 0)
	binary.BigEndian.PutUint16(a[offChecksum:], checksum(a, 0))
}

// checksum is the Internet checksum (RFC 1071) of b. CARP adds no pseudo
// header in either family; VRRP's goes into sum.
func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// interval is base seconds and skew 1/256 seconds, to the microsecond below,
// as the kernels compute it.
func interval(base, skew uint8) time.Duration {
	return time.Duration(base)*time.Second + skewTime(skew)
}

func skewTime(skew uint8) time.Duration {
	return time.Duration(int(skew)*1_000_000/256) * time.Microsecond
}

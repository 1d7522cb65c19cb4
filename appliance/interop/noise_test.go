//go:build interop

package interop

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// noise makes frames that nobody should send, from a seed: bytes without
// sense, and headers with sense in front of bytes without.
type noise struct {
	random *rand.Rand
	macs   [][]byte     // of the node's neighbourhood, to be sent to
	hosts  []netip.Addr // IPv4 addresses of the wire
}

// newNoise aims at the given MACs and addresses.
func newNoise(seed uint64, macs [][]byte, hosts ...string) *noise {
	n := &noise{random: rand.New(rand.NewPCG(seed, 1)), macs: macs}
	n.macs = append(n.macs, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{1, 0, 0x5e, 0, 0, 0x12}, []byte{0x33, 0x33, 0, 0, 0, 0x12},
		[]byte{0x33, 0x33, 0, 0, 0, 1}, []byte{1, 0, 0x5e, 0, 0, 1})
	for _, h := range hosts {
		n.hosts = append(n.hosts, netip.MustParseAddr(h))
	}
	return n
}

func (n *noise) bytes(count int) []byte {
	b := make([]byte, count)
	for i := range b {
		b[i] = byte(n.random.Uint32())
	}
	return b
}

func pick[T any](n *noise, from ...T) T { return from[n.random.IntN(len(from))] }

// frame is the next one.
func (n *noise) frame() []byte {
	f := slices.Clone(pick(n, n.macs...))
	f = append(f, 2, 0xee, 0, 0, 0, byte(n.random.Uint32())) // few senders: the switch must not drown
	switch n.random.IntN(8) {
	case 0:
		return append(f, n.bytes(2+n.random.IntN(1500))...)
	case 1:
		f = binary.BigEndian.AppendUint16(f, pick(n, uint16(0x0800), 0x86dd, 0x0806, 0x8100, 0x88a8, 0x8863, 0x0001))
		return append(f, n.bytes(n.random.IntN(1500))...)
	case 2:
		f = append(f, 8, 6)
		return append(append(f, 0, 1, 8, 0, 6, 4, 0, byte(n.random.IntN(4))), n.bytes(n.random.IntN(40))...)
	case 3:
		f = append(f, 0x81, 0, byte(n.random.Uint32()), byte(n.random.Uint32()), 8, 0)
		return n.ipv4(f)
	case 4:
		return n.ipv6(append(f, 0x86, 0xdd))
	}
	return n.ipv4(append(f, 8, 0))
}

// ipv4 adds a header with a good sum, and often good lengths, and a payload.
func (n *noise) ipv4(f []byte) []byte {
	proto := pick(n, byte(1), 2, 6, 6, 6, 17, 17, 112, 112, 240, 41, 50, byte(n.random.Uint32()))
	var body []byte
	if proto == 112 {
		body = n.carp()
	} else {
		body = n.bytes(n.random.IntN(1400))
	}
	body = n.sensible(proto, body)
	options := 0
	if n.random.IntN(4) == 0 {
		options = n.random.IntN(11)
	}
	h := make([]byte, 20+4*options)
	copy(h[20:], n.bytes(4*options))
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
	binary.BigEndian.PutUint16(h[4:], uint16(n.random.IntN(8))) // fragments meet
	switch n.random.IntN(4) {
	case 0:
		binary.BigEndian.PutUint16(h[6:], uint16(n.random.Uint32()))
	case 1:
		binary.BigEndian.PutUint16(h[2:], uint16(n.random.Uint32()))
	}
	h[8], h[9] = pick(n, byte(64), 255, 255, 1, 0), proto
	source, target := pick(n, n.hosts...).As4(), pick(n, n.hosts...).As4()
	if n.random.IntN(2) == 0 {
		source[3] = byte(n.random.Uint32())
	}
	if n.random.IntN(4) == 0 {
		copy(source[:], n.bytes(4))
	}
	copy(h[12:], source[:])
	copy(h[16:], target[:])
	if proto == 112 {
		copy(h[16:], []byte{224, 0, 0, 18})
	}
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	if n.random.IntN(2) == 0 {
		sum4(h, body)
	}
	return append(append(f, h...), body...)
}

// sensible gives random bytes, often, a header of layer 4 that can be believed.
func (n *noise) sensible(proto byte, body []byte) []byte {
	if len(body) < 60 || n.random.IntN(2) == 0 {
		return body
	}
	switch proto {
	case 1:
		body[0], body[1] = pick(n, byte(0), 3, 5, 8, 11, 12, 13), pick(n, byte(0), 1, 3, 4)
		copy(body[8:], n.ipv4(nil)) // what an error quotes, errors in errors included
	case 6:
		binary.BigEndian.PutUint16(body[2:], pick(n, uint16(80), 8080, 443))
		body[12], body[13] = byte(5+n.random.IntN(11))<<4, pick(n, byte(2), 0x12, 0x10, 0x18, 4, 0x14, 0x11, 0xff, 0)
	case 17:
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	}
	return body
}

// sum4 fills the sum of layer 4 in, where there is one.
func sum4(h, body []byte) {
	at, known := map[byte]int{1: 2, 6: 16, 17: 6}[h[9]]
	if !known || len(body) < at+2 {
		return
	}
	body[at], body[at+1] = 0, 0
	all := body
	if h[9] != 1 {
		all = append([]byte{h[12], h[13], h[14], h[15], h[16], h[17], h[18], h[19], 0, h[9], byte(len(body) >> 8), byte(len(body))}, body...)
	}
	binary.BigEndian.PutUint16(body[at:], checksum(all))
}

// carp is an advert with a good sum and a digest of another password.
func (n *noise) carp() []byte {
	b := n.bytes(36 + n.random.IntN(3)*n.random.IntN(20))
	b[0], b[1], b[2], b[3], b[5] = 0x21, pick(n, byte(1), 200, byte(n.random.Uint32())), pick(n, byte(0), 100, 255), 7, pick(n, byte(0), 1, 255)
	mac := hmac.New(sha1.New, []byte("not the password"))
	mac.Write(b[8:16])
	copy(b[16:], mac.Sum(nil))
	b[6], b[7] = 0, 0
	if n.random.IntN(8) != 0 {
		binary.BigEndian.PutUint16(b[6:], checksum(b))
	}
	return b
}

// ipv6 adds a header, a chain of extension headers and a payload.
func (n *noise) ipv6(f []byte) []byte {
	var body []byte
	first := pick(n, byte(0), 6, 17, 43, 44, 58, 58, 60, 112, 59, byte(n.random.Uint32()))
	for range n.random.IntN(5) {
		body = append(body, pick(n, byte(0), 43, 44, 60, 58, 17), byte(n.random.IntN(3)))
		body = append(body, n.bytes(6)...)
	}
	body = append(body, n.bytes(n.random.IntN(1300))...)
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, first, pick(n, byte(255), 64, 1, 0)
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	copy(h[8:], n.bytes(32))
	switch n.random.IntN(3) {
	case 0:
		copy(h[8:], []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0})
	case 1:
		copy(h[8:], make([]byte, 16))
	}
	if n.random.IntN(2) == 0 {
		copy(h[24:], []byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, pick(n, byte(1), 2, 0x12)})
	}
	return append(append(f, h...), body...)
}

package packet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// golden returns the frames of testdata/linux.txt by name.
func golden(t testing.TB) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/linux.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	frames, name := map[string][]byte{}, ""
	for s := bufio.NewScanner(f); s.Scan(); {
		switch line := s.Text(); {
		case line == "" || line[0] == '#':
		case strings.HasSuffix(line, ":"):
			name = strings.TrimSuffix(line, ":")
		default:
			b, err := hex.DecodeString(line)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			frames[name] = append(frames[name], b...)
		}
	}
	return frames
}

func mustDecode(t testing.TB, b []byte) *View {
	t.Helper()
	v := new(View)
	if r := Decode(b, v); r != OK {
		t.Fatalf("Decode(%x) = %v", b, r)
	}
	return v
}

// spec describes a packet; craft makes it the slow and obvious way, as a
// second opinion on what the package does by difference.
type spec struct {
	Tuple
	id       uint16 // of IPv4
	options  []byte // IPv4 options, or IPv6 extension headers that name next themselves
	next     uint8  // IPv6: the next header of the fixed header, if options
	seq      uint32
	flags    uint8
	tcpOpts  []byte
	icmpType uint8
	payload  []byte
	noSum    bool // UDP without checksum
	partial  bool // the pseudo header's sum only
	padding  int
}

// slowSum is RFC 1071 word by word.
func slowSum(parts ...[]byte) uint16 {
	all := bytes.Join(parts, nil)
	if len(all)%2 != 0 {
		all = append(all, 0)
	}
	s := uint32(0)
	for i := 0; i < len(all); i += 2 {
		s += uint32(all[i])<<8 + uint32(all[i+1])
		if s > 0xffff {
			s -= 0xffff
		}
	}
	return uint16(s)
}

func be16(n int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func (s *spec) addrs() []byte {
	if s.Family == 4 {
		return append(bytes.Clone(s.Src[12:]), s.Dst[12:]...)
	}
	return append(bytes.Clone(s.Src[:]), s.Dst[:]...)
}

// l4 is the upper-layer header and payload.
func (s *spec) l4() []byte {
	head, at := bytes.Join([][]byte{be16(int(s.SrcPort)), be16(int(s.DstPort))}, nil), 0
	pseudo := true
	switch s.Proto {
	case ProtoTCP:
		head = append(head, be32(s.seq)...)
		head = append(head, be32(0x01020304)...)
		head = append(head, byte(20+len(s.tcpOpts))/4<<4, s.flags, 0x20, 0, 0, 0, 0, 0)
		head = append(head, s.tcpOpts...)
		at = 16
	case ProtoUDP:
		head = append(head, be16(8+len(s.payload))...)
		head = append(head, 0, 0)
		at = 6
	case ProtoICMP, ProtoICMPv6:
		head = append([]byte{s.icmpType, 0, 0, 0}, be16(int(s.SrcPort))...)
		head = append(head, 0, 7)
		at, pseudo = 2, s.Proto == ProtoICMPv6
	default:
		return s.payload
	}
	var over []byte
	if pseudo {
		over = bytes.Join([][]byte{s.addrs(), be32(uint32(len(head) + len(s.payload))), {0, 0, 0, s.Proto}}, nil)
	}
	sum := ^slowSum(over, head, s.payload)
	switch {
	case s.partial:
		sum = slowSum(over)
	case s.noSum:
		sum = 0
	case s.Proto == ProtoUDP && sum == 0:
		sum = 0xffff
	}
	copy(head[at:], be16(int(sum)))
	return append(head, s.payload...)
}

func (s *spec) ip() []byte {
	l4 := s.l4()
	if s.Family == 6 {
		next := s.Proto
		if len(s.options) > 0 {
			next = s.next
		}
		return bytes.Join([][]byte{{0x60, 0, 0, 0}, be16(len(s.options) + len(l4)), {next, 64}, s.addrs(), s.options, l4}, nil)
	}
	head := bytes.Join([][]byte{{byte(0x45 + len(s.options)/4), 0}, be16(20 + len(s.options) + len(l4)), be16(int(s.id)),
		{0, 0, 64, s.Proto, 0, 0}, s.addrs(), s.options}, nil)
	copy(head[10:], be16(int(^slowSum(head))))
	return append(head, l4...)
}

func (s *spec) frame() []byte {
	typ := []byte{0x08, 0x00}
	if s.Family == 6 {
		typ = []byte{0x86, 0xdd}
	}
	return bytes.Join([][]byte{{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}, typ, s.ip(), make([]byte, s.padding)}, nil)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func randomAddr(r *rand.Rand, family uint8) Addr {
	a := Addr(randomBytes(r, 16))
	if r.IntN(8) == 0 { // Words of zeros and ones are where sums go wrong.
		copy(a[12:], []byte{0xff, 0xff, 0, 0})
	}
	if family == 4 {
		copy(a[:12], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})
	} else {
		a[0] = 0x20
	}
	return a
}

// randomTuple is one of the given family and protocol.
func randomTuple(r *rand.Rand, family, proto uint8) Tuple {
	t := Tuple{Src: randomAddr(r, family), Dst: randomAddr(r, family), Proto: proto, Family: family}
	switch proto {
	case ProtoTCP, ProtoUDP:
		t.SrcPort, t.DstPort = uint16(r.Uint32()), uint16(r.Uint32())
	case ProtoICMP, ProtoICMPv6:
		t.SrcPort = uint16(r.Uint32())
		t.DstPort = t.SrcPort
	}
	return t
}

// randomSpec is a whole packet of either family: TCP, UDP, ICMP query, ESP.
func randomSpec(r *rand.Rand) spec {
	family, icmp, echo := uint8(4), uint8(ProtoICMP), uint8(ICMP4Echo)
	if r.IntN(2) == 0 {
		family, icmp, echo = 6, ProtoICMPv6, ICMP6EchoReply
	}
	proto := []uint8{ProtoTCP, ProtoTCP, ProtoUDP, ProtoUDP, icmp, ProtoESP}[r.IntN(6)]
	s := spec{
		Tuple:   randomTuple(r, family, proto),
		id:      uint16(r.Uint32()),
		seq:     r.Uint32(),
		flags:   ACK,
		payload: randomBytes(r, r.IntN(90)),
		padding: r.IntN(3),
	}
	if proto == icmp {
		s.icmpType = echo
	}
	s.partial = r.IntN(4) == 0 && (proto == ProtoTCP || proto == ProtoUDP)
	s.noSum = r.IntN(8) == 0 && proto == ProtoUDP && !s.partial
	if r.IntN(4) == 0 {
		s.tcpOpts = []byte{1, 2, 4, 5, 0xb4, 0, 0, 0}
	}
	if r.IntN(4) == 0 {
		if family == 4 {
			s.options = []byte{1, 1, 1, 0}
		} else {
			s.next, s.options = nextDestination, []byte{proto, 0, 1, 4, 0, 0, 0, 0}
		}
	}
	return s
}

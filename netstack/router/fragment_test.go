package router

import (
	"bytes"
	"testing"

	"tandem/netstack/packet"
)

// cutUp is a frame as fragments of at most mtu bytes of IP.
func cutUp(t testing.TB, frame []byte, mtu int) (out [][]byte) {
	t.Helper()
	var v packet.View
	if why := packet.Decode(frame, &v); why != packet.OK {
		t.Fatal(why)
	}
	emit := func(b []byte) { out = append(out, bytes.Clone(b)) }
	ok := false
	if v.Family == 4 {
		ok = packet.FragmentIPv4(&v, mtu, emit, make([]byte, len(frame)))
	} else {
		ok = packet.FragmentIPv6(&v, mtu, 0x1234, emit, make([]byte, len(frame)+8))
	}
	if !ok {
		t.Fatalf("frame of %d bytes cannot be cut to %d", len(frame), mtu)
	}
	return out
}

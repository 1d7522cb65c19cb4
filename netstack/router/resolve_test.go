package router

import (
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// fetch has the client send a datagram to dst and returns what arrives on the WAN.
func (l *lab) fetch(dst netip.Addr, payload string) [][]byte {
	l.in(lan, udp(lan, ap(client4, 4000), ap(dst, 53), []byte(payload)))
	return l.out(wan)
}

func TestPacketsWaitForTheirNeighbour(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN(), Silent: []netip.Addr{server4}})
	for _, payload := range []string{"one", "two"} {
		for _, b := range l.fetch(server4, payload) {
			t.Errorf("sent to nobody: %x", b)
		}
	}
	l.wires[wan].put(packet.AppendARP(nil, packet.ARPReply, macOf(server4), packet.MAC(portMAC(wan)), macOf(server4), server4, packet.MAC(portMAC(wan)), wanAddr))
	l.step()
	out := l.out(wan)
	if len(out) != 2 {
		t.Fatalf("%d packets after the answer, want 2; drops %v", len(out), l.router.Drops())
	}
	for i, want := range []string{"one", "two"} {
		v := decoded(t, out[i])
		if got := string(v.B[v.Payload:v.End]); got != want || packet.MAC(v.B[:6]) != macOf(server4) || v.TTL != 63 {
			t.Errorf("packet %d: %q to %x, TTL %d", i, got, v.B[:6], v.TTL)
		}
	}
}

func TestSilentNeighbourIsReportedToTheSender(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade(), Silent: []netip.Addr{server4}})
	l.fetch(server4, "x")
	l.wait(4 * time.Second)
	v := l.one(lan)
	var in packet.View
	if v.Proto != packet.ProtoICMP || v.ICMPType != 3 || v.ICMPCode != 1 || v.Src.Netip() != lanAddr || !packet.DecodeInner(v, &in) || in.Src.Netip() != client4 {
		t.Errorf("the client was told %+v about %+v", v.Tuple, in.Tuple)
	}
	if l.router.hold.count != 0 || l.router.hold.bytes != 0 {
		t.Errorf("%d packets of %d bytes still wait", l.router.hold.count, l.router.hold.bytes)
	}
}

// What another worker does between a question and the moment at which the
// packet was put aside must not leave the packet there.
func TestPacketHeldTooLateIsSent(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN()})
	l.fetch(server4, "x") // The neighbour is known now.
	key := hopKey{wan, packet.AddrFrom(server4)}
	f := link.NewFrame(2000)
	f.Set(udp(lan, ap(client4, 4000), ap(server4, 53), []byte("late")))
	var v packet.View
	packet.Decode(f.Bytes(), &v)
	w := l.router.Worker(0)
	w.begin(l.now)
	l.router.hold.add(key, f, held{from: lan, to: v.Tuple})
	w.settle(w.snap.ports[wan], key)
	w.flush()
	if got := l.one(wan); string(got.B[got.Payload:got.End]) != "late" {
		t.Errorf("sent %x", got.B)
	}
}

func TestWaitingRoomIsBounded(t *testing.T) {
	var h hold
	h.init()
	small, large := link.NewFrame(100), link.NewFrame(65000)
	small.Len, large.Len = 100, 65000
	key := func(i int) hopKey { return hopKey{1, packet.Addr{15: byte(i), 14: byte(i >> 8), 0: 0x20}} }
	lost := 0
	for i := range 20 {
		lost += h.add(key(1), small, held{to: packet.Tuple{SrcPort: uint16(i)}})
	}
	list := h.take(key(1))
	if len(list) != heldPerHopMax || lost != 20-heldPerHopMax || list[0].to.SrcPort != 20-heldPerHopMax {
		t.Errorf("%d wait for one neighbour, %d lost, first %d", len(list), lost, list[0].to.SrcPort)
	}
	for i := range 5000 {
		h.add(key(i), small, held{})
		if i%3 == 0 {
			h.take(key(i / 2))
		}
		if h.count > heldMax || len(h.order) > 2*heldMax+1 {
			t.Fatalf("after %d: %d packets, %d in order", i, h.count, len(h.order))
		}
	}
	if len(h.take(key(4999))) != 1 {
		t.Error("the newest is gone")
	}
	for i := range 200 {
		h.add(key(i), large, held{})
	}
	if h.bytes > heldBytesMax {
		t.Errorf("%d bytes wait", h.bytes)
	}
	for i := range 5000 {
		h.take(key(i))
	}
	if h.count != 0 || h.bytes != 0 || len(h.byHop) != 0 {
		t.Errorf("empty, and yet %d packets, %d bytes", h.count, h.bytes)
	}
}

func TestChangedMACReachesKnownFlows(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN()})
	for range 3 {
		l.fetch(server4, "x")
	}
	l.wait(2 * time.Second)
	moved := packet.MAC{2, 9, 9, 9, 9, 9}
	l.in(wan, packet.AppendARP(nil, packet.ARPRequest, moved, packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, moved, server4, packet.MAC{}, server4))
	if out := l.fetch(server4, "x"); len(out) != 1 || packet.MAC(out[0][:6]) != moved {
		t.Errorf("sent %x", out)
	}
}

func TestHopNumbersDoNotOutliveTheirTable(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN()})
	for range 3 {
		l.fetch(server4, "x")
	}
	if err := l.router.SetPorts(l.ports); err != nil {
		t.Fatal(err)
	}
	// Another neighbour takes the first number of the new table.
	other := netip.MustParseAddr("198.51.100.77")
	l.in(lan, udp(lan, ap(client4, 4001), ap(other, 53), nil), udp(lan, ap(client4, 4001), ap(other, 53), nil))
	l.out(wan)
	if out := l.fetch(server4, "x"); len(out) != 1 || packet.MAC(out[0][:6]) != macOf(server4) {
		t.Errorf("sent %x", out)
	}
}

func TestFullTableOfHopsIsReplaced(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN()})
	h := l.router.snap.Load().hops
	h.next = hopsMax
	l.fetch(server4, "x")
	l.fetch(server4, "x")
	if now := l.router.snap.Load().hops; now == h {
		t.Fatal("the full table stays")
	}
	if out := l.fetch(server4, "x"); len(out) != 1 || packet.MAC(out[0][:6]) != macOf(server4) {
		t.Errorf("sent %x", out)
	}
}

func TestLinkDownForgetsNeighbours(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN()})
	for range 3 {
		l.fetch(server4, "x")
	}
	l.wires[wan].silent[server4] = true
	l.router.LinkDown(wan)
	if out := l.fetch(server4, "x"); len(out) != 0 {
		t.Errorf("sent %x to a neighbour that is forgotten", out)
	}
}

func TestSendSaysWhetherTheDeviceTookIt(t *testing.T) {
	l := newLab(t, labConfig{VLANs: true})
	frame := udp(dmz, ap(dmzAddr, 1), ap(inside4, 2), nil)
	for _, iface := range []uint16{dmz, 4} {
		l.wires[dmz].refuse = false
		if !l.router.Send(l.now, iface, frame) {
			t.Errorf("interface %d: taken, and Send says no", iface)
		}
		l.wires[dmz].refuse = true
		if l.router.Send(l.now, iface, frame) {
			t.Errorf("interface %d: lost, and Send says yes", iface)
		}
	}
	if l.router.Send(l.now, 99, frame) {
		t.Error("sent by an interface that is not there")
	}
}

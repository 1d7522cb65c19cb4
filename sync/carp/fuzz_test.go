package carp

import (
	"net/netip"
	"testing"
	"time"
)

func seeds(f *testing.F) [][]byte {
	var out [][]byte
	for _, name := range []string{"carp.pcap", "carp-negative.pcap", "carp-vrrp3.pcap"} {
		for _, frame := range pcapFrames(f, name) {
			out = append(out, packetOf(f, 1, frame).Payload)
		}
	}
	return append(out, vrrp2(1), nil)
}

func FuzzParseAdvert(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAdvert(b)
		if err != nil {
			return
		}
		a.VHID()
		a.Demote()
		a.Counter()
		if a.IsBowOut() != (a.Interval() == interval(255, 255)) {
			t.Error("farewell or not")
		}
	})
}

// FuzzReceive lets anything arrive at a node, well signed or not, and time
// pass in between.
func FuzzReceive(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b, uint8(TTL), true, true, uint16(900))
		f.Add(b, uint8(1), false, false, uint16(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, ttl uint8, v4, sign bool, ms uint16) {
		cfg := soloConfig()
		cfg.DemoteByte = ttl&1 == 1
		g := upGroup(t, cfg)
		p := Packet{Iface: 1, Family: IPv4, Src: peerAddr, Dst: group4, TTL: ttl, Payload: b}
		if !v4 {
			p.Family, p.Src, p.Dst = IPv6, netip.MustParseAddr("fe80::3"), group6
		}
		if sign && len(b) == HeaderLen {
			p.Payload = append([]byte(nil), b...)
			p.Payload[offVHID] = 1
			NewKey(cfg.key()).Sign(p.Payload, 7)
		}
		now := start
		for range 8 {
			now = now.Add(time.Duration(ms) * time.Millisecond)
			acts := g.Receive(now, p, nil)
			acts = g.Tick(now, acts)
			if s := g.Snapshot().VHIDs[0]; s.EffectiveSkew > SkewDemoted {
				t.Errorf("%+v", s)
			}
			if d := g.Deadline(); d.IsZero() || !d.After(now) {
				t.Fatalf("after %v the deadline is %v", now, d)
			}
			_ = acts
		}
	})
}

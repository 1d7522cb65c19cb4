package carp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// heardMax bounds the list of speakers of all interfaces together.
const heardMax = 256

// Heard is one speaker of IP protocol 112 on a segment.
type Heard struct {
	Iface    uint16
	VHID     uint8  // or virtual router id: both claim the same virtual MAC
	Protocol string // ProtocolCARP, ProtocolVRRP2, ProtocolVRRP3
	Source   netip.Addr
	Base     uint8 // CARP
	Skew     uint8 // CARP
	Priority uint8 // VRRP
	Interval time.Duration
	Verified bool // signed with our key of that vhid
	First    time.Time
	Last     time.Time
	Count    uint64
}

func (h *Heard) sameSpeaker(o *Heard) bool {
	return h.Iface == o.Iface && h.VHID == o.VHID && h.Protocol == o.Protocol && h.Source == o.Source
}

// note remembers a speaker. When the list is full the one heard least often
// goes, so that a flood of made-up sources does not push out the real ones.
func (g *Group) note(now time.Time, h Heard) {
	at := slices.IndexFunc(g.heard, func(o Heard) bool { return o.sameSpeaker(&h) })
	h.First = now
	if at < 0 {
		if len(g.heard) < heardMax {
			g.heard = append(g.heard, Heard{})
			at = len(g.heard) - 1
		} else {
			at = 0
			for i := range g.heard {
				if cmp.Or(cmp.Compare(g.heard[i].Count, g.heard[at].Count), g.heard[i].Last.Compare(g.heard[at].Last)) < 0 {
					at = i
				}
			}
		}
	} else {
		h.First, h.Count, h.Verified = g.heard[at].First, g.heard[at].Count, g.heard[at].Verified
	}
	h.Last = now
	h.Count++
	g.heard[at] = h
}

func (g *Group) noteVerified(p *Packet, adv Advert) {
	key := Heard{Iface: p.Iface, VHID: adv.VHID(), Protocol: ProtocolCARP, Source: p.Src}
	if at := slices.IndexFunc(g.heard, func(o Heard) bool { return o.sameSpeaker(&key) }); at >= 0 {
		g.heard[at].Verified = true
	}
}

// Scan returns the speakers heard on an interface since `since`, by vhid and
// source.
func (g *Group) Scan(ifaceIndex uint16, since time.Time) []Heard {
	var out []Heard
	for _, h := range g.heard {
		if h.Iface == ifaceIndex && !h.Last.Before(since) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b Heard) int {
		return cmp.Or(cmp.Compare(a.VHID, b.VHID), a.Source.Compare(b.Source), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

// FreeVHID proposes a number for a new virtual host on an interface: the last
// octet of addr if it is free, else the lowest free one. Free means: not
// configured here and not heard. False: all 255 are taken.
func (g *Group) FreeVHID(ifaceIndex uint16, addr netip.Addr) (uint8, bool) {
	var taken [256]bool
	taken[0] = true
	for _, v := range g.vhosts {
		taken[v.cfg.ID] = taken[v.cfg.ID] || v.cfg.Iface == ifaceIndex
	}
	for _, h := range g.heard {
		taken[h.VHID] = taken[h.VHID] || h.Iface == ifaceIndex
	}
	if addr.IsValid() {
		b := addr.AsSlice()
		if last := b[len(b)-1]; !taken[last] {
			return last, true
		}
	}
	for id := 1; id <= 255; id++ {
		if !taken[id] {
			return uint8(id), true
		}
	}
	return 0, false
}

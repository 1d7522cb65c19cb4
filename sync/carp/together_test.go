package carp

import (
	"net/netip"
	"testing"
	"time"
)

// backGroup is a node with a vhid on each of two interfaces that has just come
// back; a slower peer is master of both.
func backGroup(t *testing.T) (g *Group, hear func(vhid, skew uint8, after time.Duration) string) {
	c := soloConfig()
	c.VHIDs[0].Skew, c.VHIDs[0].Addresses = 0, addrs("192.0.2.1")
	c.Interfaces = append(c.Interfaces, Interface{Index: 2, Name: "lan", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.130")}})
	c.VHIDs = append(c.VHIDs, VHID{Iface: 2, ID: 2, Base: 1, Password: "secret", Addresses: addrs("192.0.2.129")})
	g = upGroup(t, c)
	g.SetLink(start, 2, true, nil)
	counter := uint64(100)
	return g, func(vhid, skew uint8, after time.Duration) string {
		v := c.VHIDs[vhid-1]
		counter++
		p := advertPacket(KeyConfig{VHID: v.ID, Password: v.Password, Addresses: v.Addresses}, 1, skew, counter, netip.MustParseAddr("192.0.2.3"))
		p.Iface = v.Iface
		g.Receive(start.Add(after), p, nil)
		s := g.Snapshot()
		return s.VHIDs[0].State + " " + s.VHIDs[1].State
	}
}

func TestVHIDsComeBackTogether(t *testing.T) {
	_, hear := backGroup(t)
	if got := hear(1, 100, 400*time.Millisecond); got != "BACKUP BACKUP" {
		t.Errorf("after one vhid's advert: %s; want both to wait for the other's", got)
	}
	if got := hear(2, 100, 900*time.Millisecond); got != "MASTER MASTER" {
		t.Errorf("after both vhids' adverts: %s", got)
	}
}

func TestADemotedMasterIsRelievedAtOnce(t *testing.T) {
	_, hear := backGroup(t)
	if got := hear(1, SkewDemoted, 400*time.Millisecond); got != "MASTER BACKUP" {
		t.Errorf("%s; what a demoted node holds must not wait for the rest", got)
	}
}

func TestAVHIDThatAnotherNodeHoldsForGoodHoldsNothingUp(t *testing.T) {
	_, hear := backGroup(t)
	hear(2, 0, 300*time.Millisecond) // as preferred as we are: it stays where it is
	if got := hear(1, 100, 400*time.Millisecond); got != "MASTER BACKUP" {
		t.Errorf("%s", got)
	}
}

func TestASilentVHIDHoldsTheOthersUpForItsOwnTimerOnly(t *testing.T) {
	g, hear := backGroup(t)
	for at := 400 * time.Millisecond; at < 2900*time.Millisecond; at += 500 * time.Millisecond {
		if got := hear(1, 100, at); got != "BACKUP BACKUP" {
			t.Fatalf("at %v: %s", at, got)
		}
	}
	g.Tick(start.Add(3*time.Second), nil)
	if got := hear(1, 100, 3001*time.Millisecond); got != "MASTER MASTER" {
		t.Errorf("after vhid 2 was taken in silence: %s", got)
	}
}

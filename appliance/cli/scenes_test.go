package cli

import (
	"time"

	"tandem/appliance/status"
)

// healthy is the primary of a pair on a good day.
func healthy() *fakeNode {
	iface := func(name, mac, addr string, more ...status.Address) status.Interface {
		return status.Interface{Name: name, Driver: "tap", Device: "fw1-" + name, MAC: mac, MTU: 1500, Link: "up",
			Addresses: append([]status.Address{{Address: addr, Kind: "interface", State: "in use"},
				{Address: "fe80::1/64", Kind: "link_local", State: "in use"}}, more...),
			RX: status.Counters{Packets: 1234567, Bytes: 1234567890}, TX: status.Counters{Packets: 23456, Bytes: 34567890}}
	}
	shared := func(addr string) status.Address { return status.Address{Address: addr, Kind: "carp", State: "held"} }
	vip := func(iface string, vhid uint8, addr, description string) status.VIP {
		return status.VIP{Interface: iface, VHID: vhid, Address: addr, Type: "carp", State: "MASTER", AdvBase: 1, Reason: "preempting a slower master",
			MasterSource: "192.168.1.2", Transitions: 2, LastTransition: before(26 * time.Hour), Description: description}
	}
	alias := vip("wan", 200, "198.51.100.210/24", "")
	alias.Type = "ip_alias"
	return &fakeNode{
		node: status.Node{
			Hostname: "fw-primary", HostID: 1, Version: "1.2.3", Role: "MASTER", UptimeSeconds: 100000, Healthy: true,
			Interfaces: []status.Interface{
				iface("wan", "02:00:00:00:00:01", "198.51.100.201/24", shared("198.51.100.200/24"), shared("198.51.100.210/24")),
				iface("lan", "02:00:00:00:00:02", "192.168.1.2/24", shared("192.168.1.1/24")),
			},
			CARP: status.CARP{Enabled: true,
				VIPs:     []status.VIP{vip("wan", 200, "198.51.100.200/24", "WAN CARP VIP"), alias, vip("lan", 1, "192.168.1.1/24", "LAN CARP VIP")},
				Counters: map[string]uint64{"received": 12, "sent": 200000, "bad_auth": 0}},
			States: status.StateCount{States: 1234, Limit: 1000000, Local: 1230, Peer: 4, Inserts: 56789, Removals: 55555},
			Drops: []status.Drop{{Reason: "no-rule", Packets: 4321}, {Reason: "bad-window", Packets: 7}, {Reason: "ttl-exceeded", Packets: 7},
				{Reason: "short", Packets: 1}, {Reason: "no-route", Packets: 99}, {Reason: "vip-not-held", Packets: 2}},
		},
		scan: status.Scan{
			Speakers: []status.Speaker{
				{Interface: "wan", Protocol: "CARP", VHID: 200, Source: "198.51.100.202", Base: 1, Skew: 100, LastHeard: before(time.Second), Ours: true},
				{Interface: "wan", Protocol: "VRRPv3", VHID: 7, Source: "198.51.100.9", Base: 1, LastHeard: before(300 * time.Millisecond)},
			},
			Free: []status.FreeVHIDs{{Interface: "wan", VHID: 201, Why: "the last octet of 198.51.100.201, and nobody uses it"}},
		},
	}
}

// demoted is the same node with its LAN cable pulled and a foreign speaker.
func demoted() *fakeNode {
	n := healthy()
	s := &n.node
	s.Role, s.Healthy = "MIXED", false
	s.Alarms = []status.Alarm{
		{Severity: "error", Source: "carp", Message: "vhid 1 on lan is INIT: the interface has no link", Since: before(150 * time.Second)},
		{Severity: "warning", Source: "carp", Message: "this node is demoted by 240 (link:lan)", Since: before(150 * time.Second)},
	}
	s.Interfaces[1].Link = "down"
	s.Interfaces[1].Addresses[0].State, s.Interfaces[1].Addresses[0].Holder = "duplicate", "02:00:00:00:00:99"
	s.Interfaces[1].RX.Errors = 3
	s.CARP.Demotion = 240
	s.CARP.Demotions = []status.Demotion{{Name: "link:lan", Amount: 240, Since: before(150 * time.Second), ClearsWhen: "lan has link again"}}
	for i := range s.CARP.VIPs {
		v := &s.CARP.VIPs[i]
		v.EffectiveSkew = 240
		v.LastTransition = before(150 * time.Second)
		if v.Interface == "lan" {
			v.State, v.Reason, v.MasterSource = "INIT", "hardware interface down", ""
		} else {
			v.State, v.Reason, v.MasterSource = "BACKUP", "more frequent advertisement received", "198.51.100.202"
		}
	}
	s.CARP.Heard = n.scan.Speakers
	return n
}

// disabled is the same node after `carp disable`, in maintenance mode too.
func disabled() *fakeNode {
	n := healthy()
	n.node.Role, n.node.Healthy = "DISABLED", false
	n.node.Alarms = []status.Alarm{{Severity: "warning", Source: "carp", Message: "CARP is switched off on this node; `carp enable` switches it on"}}
	n.node.CARP.Enabled, n.node.CARP.Maintenance = false, true
	for i := range n.node.CARP.VIPs {
		v := &n.node.CARP.VIPs[i]
		v.State, v.Reason, v.MasterSource = "DISABLED", "CARP disabled", ""
	}
	return n
}

// alone is a node without virtual addresses, just started.
func alone() *fakeNode {
	n := healthy()
	n.node.Role, n.node.HostID, n.node.UptimeSeconds = "STANDALONE", 0, 3.5
	n.node.CARP = status.CARP{Enabled: true}
	n.node.Interfaces = n.node.Interfaces[:1]
	n.node.Interfaces[0].Addresses = nil
	n.node.Interfaces[0].RX, n.node.Interfaces[0].TX = status.Counters{}, status.Counters{}
	n.node.Drops, n.node.States = nil, status.StateCount{Limit: 1000}
	n.scan = status.Scan{}
	return n
}

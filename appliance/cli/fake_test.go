package cli

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"tandem/appliance/status"
)

// now is the time of every test.
var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func before(d time.Duration) time.Time { return now.Add(-d) }

// fakeNode answers from its fields.
type fakeNode struct {
	node status.Node
	scan status.Scan
	did  []string
	fail error
}

func (n *fakeNode) Status() status.Node { return n.node }
func (n *fakeNode) CARP() status.CARP   { return n.node.CARP }
func (n *fakeNode) SetEnabled(on bool) {
	n.did = append(n.did, map[bool]string{true: "enable", false: "disable"}[on])
}
func (n *fakeNode) SetMaintenance(on bool) error {
	n.did = append(n.did, map[bool]string{true: "maintenance on", false: "maintenance off"}[on])
	return n.fail
}
func (n *fakeNode) ResetDemotion() { n.did = append(n.did, "reset-demotion") }
func (n *fakeNode) Scan(iface string) (status.Scan, error) {
	if iface != "" && iface != "wan" {
		return status.Scan{}, errors.New(`there is no interface "` + iface + `"`)
	}
	return n.scan, nil
}

func (n *fakeNode) States(filter string) []status.State {
	if filter == "none" {
		return nil
	}
	return []status.State{
		{ID: "01", Creator: "00000001", Interface: "lan", Direction: "in", Protocol: "tcp", Source: "192.168.1.50:40000", Destination: "198.51.100.1:443",
			TranslatedSource: "198.51.100.200:51234", TranslatedDestination: "198.51.100.1:443", State: "ESTABLISHED:ESTABLISHED",
			AgeSeconds: 3725, ExpiresSeconds: 86390, Packets: 12345, Bytes: 9876543, Rule: "lan-any", Origin: "local"},
		{ID: "02", Creator: "00000002", Interface: "wan", Direction: "in", Protocol: "tcp", Source: "203.0.113.9:1024", Destination: "198.51.100.200:8080",
			TranslatedSource: "203.0.113.9:1024", TranslatedDestination: "192.168.1.50:80", State: "SYN_SENT:CLOSED",
			AgeSeconds: 0.25, ExpiresSeconds: 29.5, Packets: 1, Bytes: 60, Rule: "web", Origin: "peer"},
		{ID: "03", Creator: "00000001", Interface: "lan", Direction: "in", Protocol: "udp", Source: "192.168.1.50:5353", Destination: "192.168.1.2:53",
			TranslatedSource: "192.168.1.50:5353", TranslatedDestination: "192.168.1.2:53", State: "SINGLE:NO_TRAFFIC",
			AgeSeconds: 5, ExpiresSeconds: 25, Packets: 2, Bytes: 1400, Rule: "lan-any", Origin: "local"},
	}
}

func (n *fakeNode) StateCount() status.StateCount {
	return status.StateCount{States: 1234, Limit: 1000000, Local: 1230, Peer: 4, Inserts: 56789, Removals: 55555, Searches: 9876543,
		Drops: []status.Drop{{Reason: "bad-window", Packets: 7}}}
}

func (n *fakeNode) KillStates(filter string) int {
	n.did = append(n.did, "kill "+filter)
	return 2
}

func (n *fakeNode) Rules(all bool) []status.Rule {
	out := []status.Rule{}
	if all {
		out = append(out, status.Rule{Number: 1, ID: "carp", Interface: "wan", Action: "pass", Direction: "any", Family: "any", Protocol: "carp",
			Source: "wan:net", Destination: "any", State: "none", Quick: true, Automatic: true, Description: "CARP between neighbours"})
	}
	return append(out,
		status.Rule{Number: 2, ID: "lan-any", Interface: "lan", Action: "pass", Direction: "in", Family: "any", Protocol: "any", Source: "lan:net",
			Destination: "any", State: "keep", Quick: true, Description: "LAN to anywhere", Evaluations: 1200, Packets: 1234567, Bytes: 987654321, States: 12},
		status.Rule{Number: 3, ID: "no-telnet", Interface: "wan", Action: "reject", Direction: "in", Family: "inet", Protocol: "tcp", Source: "any",
			Destination: "self", DestinationPort: "telnet", State: "keep", Log: true, Quick: true, Extra: []string{"tcp_flags = S/SA"}})
}

func (n *fakeNode) NAT() []status.Translation {
	return []status.Translation{
		{Number: 1, Kind: "port_forward", Interface: "wan", Family: "inet", Protocol: "tcp", Source: "any", Destination: "198.51.100.200",
			DestinationPort: "8080", Translation: "192.168.1.50 port 80", Description: "Web server on LAN", Used: 3},
		{Number: 2, Kind: "outbound", Interface: "wan", Family: "inet", Protocol: "udp", Source: "192.168.1.0/24", Destination: "any",
			DestinationPort: "500", Translation: "198.51.100.200", StaticPort: true, Automatic: true},
	}
}

func (n *fakeNode) NATText() string {
	return "[[nat.outbound.rules]]\ninterface = \"wan\"\nsource = \"192.168.1.0/24\"\n"
}

func (n *fakeNode) ARP() []status.Neighbour {
	return []status.Neighbour{
		{Address: "192.168.1.50", MAC: "02:00:00:00:00:50", Interface: "lan", State: "reachable", AgeSeconds: 61, ExpiresSeconds: 1139},
		{Address: "fe80::50", MAC: "02:00:00:00:00:50", Interface: "lan", State: "stale", AgeSeconds: 4000, ExpiresSeconds: 10},
	}
}

func (n *fakeNode) DeleteARP(addr netip.Addr) { n.did = append(n.did, "arp "+addr.String()) }

func (n *fakeNode) Routes() []status.Route {
	return []status.Route{
		{Destination: "0.0.0.0/0", Gateway: "198.51.100.1", Interface: "wan", Kind: "via"},
		{Destination: "10.0.0.0/8", Kind: "blackhole"},
		{Destination: "192.168.1.0/24", Interface: "lan", Kind: "connected"},
	}
}

func (n *fakeNode) Interfaces() []status.Interface { return n.node.Interfaces }

func (n *fakeNode) Events(since time.Time) []status.Event {
	all := []status.Event{
		{Time: before(2 * time.Hour), Level: "info", Source: "node", Message: "fw-primary starts: 3 interfaces, 2 virtual addresses, 14 rules"},
		{Time: before(time.Minute), Level: "warn", Source: "carp", Message: "vhid 1 on lan: incorrect hash from 192.168.1.9; is the password the same?"},
		{Time: before(time.Second), Level: "info", Source: "carp", Message: "fw-primary is MASTER of 1@lan: master timed out"},
	}
	for len(all) > 0 && all[0].Time.Before(since) {
		all = all[1:]
	}
	return all
}

func (n *fakeNode) Packets(time.Time) []status.Packet {
	return []status.Packet{
		{ID: "1", Time: before(time.Second), Interface: "wan", Direction: "in", Verdict: "block", Reason: "no-rule", Rule: "default", Protocol: "tcp",
			Source: "203.0.113.9:4444", Destination: "198.51.100.200:22", TCPFlags: "S", Length: 60},
		{ID: "2", Time: before(time.Second), Verdict: "summary", Reason: "no-rule", Length: 1234},
		{ID: "3", Time: before(0), Interface: "lan", Direction: "in", Verdict: "pass", Reason: "ok", Rule: "lan-any", Protocol: "udp",
			Source: "192.168.1.50:5353", Destination: "192.168.1.2:53", Length: 71},
	}
}

// Watch gives what Events and Packets have, again, and ends.
func (n *fakeNode) Watch(firewall bool) (<-chan status.Event, <-chan status.Packet, func(), error) {
	events, packets := make(chan status.Event, 4), make(chan status.Packet, 4)
	events <- n.Events(time.Time{})[2]
	events <- status.Event{Time: now, Level: "error", Source: "node", Message: "interface sync is gone"}
	close(events)
	packets <- n.Packets(time.Time{})[2]
	close(packets)
	return events, packets, func() {}, n.fail
}

// arpFrame asks who has 192.168.1.1.
var arpFrame = []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x50\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" +
	"\x02\x00\x00\x00\x00\x50\xc0\xa8\x01\x32\x00\x00\x00\x00\x00\x00\xc0\xa8\x01\x01")

func (n *fakeNode) Capture(_ context.Context, iface, expr string, emit func(status.Frame) bool) error {
	if expr == "nonsense" {
		return errors.New(`the expression's word 1 "nonsense" is not known`)
	}
	for i := range 3 {
		if !emit(status.Frame{Time: now.Add(time.Duration(i) * time.Millisecond), Interface: iface, Direction: "in", Length: len(arpFrame), Data: arpFrame}) {
			break
		}
	}
	return nil
}

func (n *fakeNode) Ping(_ context.Context, r status.PingRequest, emit func(status.Probe)) error {
	if r.Remote == "192.0.2.1" {
		for i := range r.Count {
			emit(status.Probe{Seq: i + 1, TTL: 64, Result: "timeout"})
		}
		return nil
	}
	for i := range r.Count {
		p := status.Probe{Seq: i + 1, TTL: 64, From: r.Remote, RTTms: 0.25 * float64(i+1), Result: "reply"}
		switch i {
		case 1:
			p = status.Probe{Seq: 2, TTL: 64, Result: "timeout"}
		case 2:
			p.From, p.Result = "198.51.100.1", "destination unreachable"
		}
		emit(p)
	}
	return n.fail
}

func (n *fakeNode) Traceroute(_ context.Context, r status.TraceRequest, emit func(status.Probe)) error {
	if r.Remote == "192.0.2.1" {
		emit(status.Probe{Seq: 1, TTL: 1, Result: "timeout"})
		return nil
	}
	for i := range 3 {
		emit(status.Probe{Seq: i + 1, TTL: 1, From: "198.51.100.1", RTTms: 0.5, Result: "time exceeded"})
	}
	emit(status.Probe{Seq: 4, TTL: 2, Result: "timeout"})
	emit(status.Probe{Seq: 5, TTL: 2, From: "203.0.113.1", RTTms: 1.5, Result: "time exceeded"})
	emit(status.Probe{Seq: 6, TTL: 2, From: "203.0.113.2", RTTms: 1.75, Result: "time exceeded"})
	for i := range 3 {
		emit(status.Probe{Seq: 7 + i, TTL: 3, From: r.Remote, RTTms: 12.125, Result: "reply"})
	}
	return n.fail
}

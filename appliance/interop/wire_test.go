//go:build interop

package interop

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

// wires is a namespace full of bridges: the switches of a world.
type wires struct{ ns *namespace }

// newWires makes a bridge for each name.
func newWires(t *testing.T, names ...string) *wires {
	t.Helper()
	w := &wires{newNamespace(t, "wires")}
	for _, name := range names {
		w.ns.run(t, "ip link add "+name+" type bridge forward_delay 0\n ip link set "+name+" up")
	}
	return w
}

// host makes a namespace with one interface, eth0, on a wire. Networks are
// its addresses; via are its default gateways.
func (w *wires) host(t *testing.T, role, wire string, networks []string, via ...string) *namespace {
	t.Helper()
	ns := newNamespace(t, role)
	w.ns.run(t, "ip link add "+role+" type veth peer name eth0 netns "+ns.name+
		"\n ip link set "+role+" master "+wire+" up")
	settle(t, ns, "eth0", networks, via)
	return ns
}

// settle gives an interface addresses and the namespace its gateways.
func settle(t *testing.T, ns *namespace, device string, networks, via []string) {
	t.Helper()
	ns.run(t, "ip link set "+device+" up")
	for _, n := range networks {
		if netip.MustParsePrefix(n).Addr().Is6() {
			n += " nodad"
		}
		ns.run(t, "ip addr add "+n+" dev "+device)
	}
	for _, v := range via {
		ns.run(t, "ip route replace default via "+v)
	}
}

// plug is what becomes of a device that a node made: the cable, as it were.
type plug func(t *testing.T, from *namespace, device string)

// into puts a device on a wire, after each start of its node.
func (w *wires) into(wire string) plug {
	return func(t *testing.T, from *namespace, device string) {
		t.Helper()
		from.run(t, "ip link set "+device+" netns "+w.ns.name)
		w.ns.run(t, "ip link set "+device+" master "+wire+" up")
	}
}

// directly makes a device the only interface of a host.
func directly(host *namespace, networks []string, via ...string) plug {
	return func(t *testing.T, from *namespace, device string) {
		t.Helper()
		from.run(t, "ip link set "+device+" netns "+host.name)
		settle(t, host, device, networks, via)
	}
}

// portOf is where a wire's bridge believes a MAC to be.
func (w *wires) portOf(t *testing.T, wire, mac string) string {
	t.Helper()
	var rows []struct {
		MAC    string `json:"mac"`
		Device string `json:"ifname"`
	}
	if err := json.Unmarshal([]byte(w.ns.run(t, "bridge -j fdb show br "+wire)), &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if strings.EqualFold(r.MAC, mac) {
			return r.Device
		}
	}
	return ""
}

// link pulls or plugs a cable.
func (w *wires) link(t *testing.T, device, state string) {
	t.Helper()
	w.ns.run(t, "ip link set "+device+" "+state)
}

package config

import (
	"slices"
	"strconv"
	"strings"
)

// deviceBytesMax is what Linux takes as the name of a device.
const deviceBytesMax = 15

const queuesMax = 64

// linkKeys are the keys of a driver beside "driver": required, then optional.
func linkKeys(d Driver) (required, optional []string) {
	switch d {
	case DriverTAP:
		return []string{"device"}, []string{"queues", "offload", "bridge"}
	case DriverTUN:
		return []string{"device"}, nil
	case DriverPacket:
		return []string{"device"}, []string{"queues", "take_over"}
	case DriverSocket:
		return nil, []string{"listen", "connect", "kind"}
	case DriverVLAN:
		return []string{"parent", "id"}, nil
	case DriverLab:
		return []string{"switch"}, nil
	}
	return nil, nil
}

// links checks what the interfaces are attached to.
func (c *checker) links() {
	type use struct{ what, iface string }
	var uses []use
	for n := range c.doc.Interfaces {
		i := &c.doc.Interfaces[n]
		if i.Link.Driver == "" || i.Disabled {
			continue
		}
		c.linkKeys(i)
		what := ""
		switch i.Link.Driver {
		case DriverTAP, DriverTUN, DriverPacket:
			what = "device " + i.Link.Device
		case DriverVLAN:
			what = "VLAN " + strconv.Itoa(i.Link.ID) + " of " + i.Link.Parent
		default:
			continue
		}
		if at := slices.IndexFunc(uses, func(u use) bool { return u.what == what }); at >= 0 {
			c.errorf(i.Key+".link", "%s is already the link of %s; give each interface its own", what, uses[at].iface)
		}
		uses = append(uses, use{what, i.Name})
	}
}

// linkKeys checks that a link has the keys of its driver and no others.
func (c *checker) linkKeys(i *Interface) {
	key, l := i.Key+".link", &i.Link
	required, optional := linkKeys(l.Driver)
	for _, name := range []string{"device", "queues", "offload", "bridge", "take_over", "listen", "connect", "kind", "parent", "id", "switch"} {
		given := c.index.has(child(key, name))
		switch {
		case given && !slices.Contains(required, name) && !slices.Contains(optional, name):
			c.errorf(child(key, name), "is no key of the link driver %s, which has %s", l.Driver, strings.Join(slices.Concat(required, optional), ", "))
		case !given && slices.Contains(required, name):
			c.errorf(child(key, name), "is required by the link driver %s; add it", l.Driver)
		}
	}
	for _, d := range []struct{ key, value string }{{"device", l.Device}, {"bridge", l.Bridge}} {
		if c.index.has(child(key, d.key)) && (d.value == "" || len(d.value) > deviceBytesMax || strings.ContainsAny(d.value, "/: \t")) {
			c.errorf(child(key, d.key), "%q cannot name a device; give 1 to %d characters without slash, colon and space", d.value, deviceBytesMax)
		}
	}
	if c.index.has(key+".queues") && (l.Queues < 1 || l.Queues > queuesMax) {
		c.errorf(key+".queues", "%d is not from 1 to %d", l.Queues, queuesMax)
	}
	switch l.Driver {
	case DriverSocket:
		c.socket(key, l)
	case DriverVLAN:
		c.vlan(key, i)
	}
}

func (c *checker) socket(key string, l *Link) {
	switch {
	case l.Kind == SocketStream && (l.Listen == "") == (l.Connect == ""):
		c.errorf(key, "a stream socket has either listen or connect; give one of them, such as listen = \"127.0.0.1:5000\"")
	case l.Kind == SocketDatagram && (l.Listen == "" || l.Connect == ""):
		c.errorf(key, "a dgram socket has both ends: listen for its own, connect for the other's")
	}
	for _, end := range []struct{ key, value string }{{"listen", l.Listen}, {"connect", l.Connect}} {
		host, port := splitPort(end.value)
		if n, err := strconv.ParseUint(port, 10, 16); end.value != "" && !strings.HasPrefix(end.value, "/") && (err != nil || n == 0 || host == "") {
			c.errorf(child(key, end.key), "%q is no end of a socket; give ADDRESS:PORT, or the path of a Unix socket", end.value)
		}
	}
}

func (c *checker) vlan(key string, i *Interface) {
	if c.index.has(key+".id") && (i.Link.ID < 1 || i.Link.ID > 4094) {
		c.errorf(key+".id", "%d is no VLAN; give 1 to 4094", i.Link.ID)
	}
	parent, ok := c.mustBeInterface(key+".parent", i.Link.Parent)
	if !ok {
		return
	}
	switch {
	case parent.Disabled:
		c.errorf(key+".parent", "%s is disabled; enable it, or disable this interface too", parent.Name)
	case parent.Link.Driver == DriverTUN:
		c.errorf(key+".parent", "%s is a tun device, which has no Ethernet frames; name another one", parent.Name)
	case parent.Link.Driver == DriverVLAN:
		c.errorf(key+".parent", "%s is a VLAN itself, and this build does not have VLANs inside VLANs yet; name the interface that has the device", parent.Name)
	}
}

//go:build interop

package interop

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// capture is a running tcpdump.
type capture struct {
	proc *process
	file string
}

// capture begins to write the frames of a device to a file.
func (ns *namespace) capture(t *testing.T, device string, filter ...string) *capture {
	t.Helper()
	c := &capture{file: filepath.Join(t.TempDir(), device+".pcap")}
	c.proc = ns.start(t, append([]string{"tcpdump", "-Z", "root", "-U", "-n", "--immediate-mode", "-i", device, "-w", c.file}, filter...)...)
	eventually(t, "tcpdump listens", func() bool {
		if !c.proc.running() {
			t.Fatalf("tcpdump ended: %s", c.proc.said.String())
		}
		return strings.Contains(c.proc.said.String(), "listening on")
	})
	return c
}

// captured is a frame and its moment.
type captured struct {
	at    time.Time
	frame gopacket.Packet
}

// end stops the capture and reads what it has.
func (c *capture) end(t *testing.T) []captured {
	t.Helper()
	c.proc.signal(t, syscall.SIGINT)
	eventually(t, "tcpdump ends", func() bool { return !c.proc.running() })
	b, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var all []captured
	for {
		data, info, err := r.ReadPacketData()
		if err != nil {
			return all
		}
		all = append(all, captured{info.Timestamp, gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)})
	}
}

// advert is a CARP advertisement as it is on the wire.
type advert struct {
	at                  time.Time
	sourceMAC, source   string
	destination         string
	ttl                 uint8
	vhid, advbase, skew uint8
	counter             uint64
	sumOK               bool
}

// adverts picks the CARP advertisements out of a capture.
func adverts(all []captured) []advert {
	var out []advert
	for _, c := range all {
		a := advert{at: c.at}
		var body []byte
		if v4, ok := c.frame.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok && v4.Protocol == 112 {
			a.source, a.destination, a.ttl, body = v4.SrcIP.String(), v4.DstIP.String(), v4.TTL, v4.Payload
		} else if v6, ok := c.frame.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ok && v6.NextHeader == 112 {
			a.source, a.destination, a.ttl, body = v6.SrcIP.String(), v6.DstIP.String(), v6.HopLimit, v6.Payload
		} else {
			continue
		}
		if len(body) != 36 || body[0] != 0x21 {
			continue
		}
		a.sourceMAC = c.frame.LinkLayer().LinkFlow().Src().String()
		a.vhid, a.skew, a.advbase, a.sumOK = body[1], body[2], body[5], checksum(body) == 0
		a.counter = binary.BigEndian.Uint64(body[8:])
		out = append(out, a)
	}
	return out
}

// of picks the adverts of one vhid.
func of(all []advert, vhid uint8) []advert {
	return slices.DeleteFunc(slices.Clone(all), func(a advert) bool { return a.vhid != vhid })
}

// intervals are the times between adverts.
func intervals(all []advert) []time.Duration {
	var out []time.Duration
	for i := 1; i < len(all); i++ {
		out = append(out, all[i].at.Sub(all[i-1].at))
	}
	return out
}

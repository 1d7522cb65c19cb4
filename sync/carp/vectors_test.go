package carp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"
)

// hexBytes reads the hex strings of the vector files.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// vector is an advert of testdata/carp.json with all that went into it.
type vector struct {
	ID       string       `json:"id"`
	Dialect  string       `json:"dialect"`
	VHID     uint8        `json:"vhid"`
	Base     uint8        `json:"advbase"`
	Skew     uint8        `json:"advskew"`
	Demote   uint8        `json:"demote"`
	Password hexBytes     `json:"password_hex"`
	Key      hexBytes     `json:"key20_hex"`
	VIPs     []netip.Addr `json:"vips"`
	LinkAddr hexBytes     `json:"lladdr_hashed_hex"`
	Hashed   []hexBytes   `json:"hash_addresses_hex"`
	Counter  string       `json:"counter"`
	Message  hexBytes     `json:"hmac_message_hex"`
	Payload  hexBytes     `json:"carp_payload_hex"`
	Version  int          `json:"ip_version"`
	Src      netip.Addr   `json:"ip_src"`
	Dst      netip.Addr   `json:"ip_dst"`
	TTL      uint8        `json:"ip_ttl"`
	TOS      uint8        `json:"ip_tos"`
	Packet   hexBytes     `json:"ip_packet_hex"`
	Frame    hexBytes     `json:"frame_hex"`
	Index    int          `json:"pcap_index"`
}

type negative struct {
	ID      string   `json:"id"`
	From    string   `json:"receiver_config_from"`
	Frame   hexBytes `json:"frame_hex"`
	Verdict string   `json:"verdict"`
	Counter string   `json:"counter"`
	Index   int      `json:"pcap_index"`
}

type vectorFile struct {
	Vectors  []vector   `json:"vectors"`
	Negative []negative `json:"negative"`
}

func load[T any](t testing.TB, name string) T {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// pcapFrames returns the records of a classic pcap file, of either byte order.
func pcapFrames(t testing.TB, name string) [][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 0xa1 {
		order = binary.BigEndian
	}
	var frames [][]byte
	for b = b[24:]; len(b) >= 16; {
		n := int(order.Uint32(b[8:]))
		frames = append(frames, b[16:16+n])
		b = b[16+n:]
	}
	return frames
}

// packetOf takes an Ethernet frame apart as far as the group wants it.
func packetOf(t testing.TB, iface uint16, frame []byte) Packet {
	t.Helper()
	ip := frame[14:]
	if ip[0]>>4 == 6 {
		src, dst := netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		end := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		return Packet{Iface: iface, Family: IPv6, Src: src, Dst: dst, TTL: ip[7], Payload: ip[40:end]}
	}
	src, dst := netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	end := int(binary.BigEndian.Uint16(ip[2:]))
	return Packet{Iface: iface, Family: IPv4, Src: src, Dst: dst, TTL: ip[8], Payload: ip[20:end]}
}

func (v *vector) keyConfig() KeyConfig {
	cfg := KeyConfig{
		VHID: v.VHID, Password: string(v.Password), Addresses: v.VIPs,
		OmitLinkLocal: v.Dialect == "openbsd",
	}
	copy(cfg.LinkAddr[:], v.LinkAddr)
	return cfg
}

func (v *vector) counter(t testing.TB) uint64 {
	t.Helper()
	c, err := strconv.ParseUint(v.Counter, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// receiver is a group that is backup for the vector's vhid, on interface 1.
func (v *vector) receiver(t testing.TB, openBSD bool) *Group {
	t.Helper()
	vc := VHID{Iface: 1, ID: v.VHID, Base: max(v.Base, 1), Skew: 100, Password: string(v.Password), Addresses: v.VIPs}
	copy(vc.LinkAddr[:], v.LinkAddr)
	if !v.Dst.IsMulticast() && v.Version == 4 {
		vc.Peer = v.Src
	} else if !v.Dst.IsMulticast() {
		vc.Peer6 = v.Src
	}
	g := newTestGroup(t, Config{
		Interfaces: []Interface{{Index: 1, Name: "wan", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.99")}}},
		VHIDs:      []VHID{vc}, DemoteByte: openBSD,
	})
	g.SetLink(start, 1, true, nil)
	return g
}

// start is when the tests' clocks begin.
var start = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

func newTestGroup(t testing.TB, cfg Config) *Group {
	t.Helper()
	counter := uint64(1 << 40)
	g, err := NewGroup(cfg, func() uint64 { counter += 1 << 40; return counter })
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestVectorsAreMadeByteForByte(t *testing.T) {
	for _, v := range load[vectorFile](t, "carp.json").Vectors {
		t.Run(v.ID, func(t *testing.T) {
			cfg := v.keyConfig()
			k := NewKey(cfg)
			if got := hmacKey(cfg.Password); !bytes.Equal(got, v.Key) {
				t.Errorf("key %x, want %x", got, v.Key)
			}
			msg := k.full
			if cfg.OmitLinkLocal && k.brief != nil {
				msg = k.brief
			}
			if got := v.Message[:len(v.Message)-8]; !bytes.Equal(msg, got) {
				t.Errorf("message %x, want %x", msg, got)
			}
			a := Encode(make([]byte, HeaderLen), v.VHID, v.Base, v.Skew, v.Demote)
			k.Sign(a, v.counter(t))
			if !bytes.Equal(a, v.Payload) {
				t.Errorf("advert %x, want %x", []byte(a), v.Payload)
			}
		})
	}
}

func TestVectorsAreRead(t *testing.T) {
	file := load[vectorFile](t, "carp.json")
	frames := pcapFrames(t, "carp.pcap")
	if len(frames) != len(file.Vectors) {
		t.Fatalf("%d frames, %d vectors", len(frames), len(file.Vectors))
	}
	for _, v := range file.Vectors {
		t.Run(v.ID, func(t *testing.T) {
			if !bytes.Equal(frames[v.Index], v.Frame) {
				t.Fatal("pcap and json disagree")
			}
			p := packetOf(t, 1, frames[v.Index])
			a, err := ParseAdvert(p.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if a.VHID() != v.VHID || a.Base() != v.Base || a.Skew() != v.Skew || a.Demote() != v.Demote || a.Counter() != v.counter(t) {
				t.Errorf("read vhid %d base %d skew %d demote %d counter %d", a.VHID(), a.Base(), a.Skew(), a.Demote(), a.Counter())
			}
			if !NewKey(v.keyConfig()).Verify(a) {
				t.Error("does not verify")
			}
			g := v.receiver(t, false)
			g.Receive(start, p, nil)
			c := g.Snapshot().Counters
			if want := (Counters{Received: c.Received, Received6: c.Received6, BecameMaster: c.BecameMaster}); c != want {
				t.Errorf("counted as faulty: %+v", c)
			}
			if h := g.Scan(1, start); len(h) != 1 || !h[0].Verified || h[0].Source != v.Src {
				t.Errorf("heard %+v", h)
			}
		})
	}
}

func TestNegativeVectorsAreCounted(t *testing.T) {
	file := load[vectorFile](t, "carp.json")
	frames := pcapFrames(t, "carp-negative.pcap")
	configs := make(map[string]vector)
	for _, v := range file.Vectors {
		configs[v.ID] = v
	}
	for _, n := range file.Negative {
		t.Run(n.ID, func(t *testing.T) {
			if !bytes.Equal(frames[n.Index], n.Frame) {
				t.Fatal("pcap and json disagree")
			}
			from := configs[n.From]
			g := from.receiver(t, false)
			p := packetOf(t, 1, frames[n.Index])
			g.Receive(start, p, nil)
			c := g.Snapshot().Counters
			counted := map[string]uint64{
				"badsum": c.BadChecksum, "badauth": c.BadAuth, "badttl": c.BadTTL,
				"badver": c.BadVersion, "badlen": c.ShortPacket, "badvhid": c.BadVHID,
			}
			var sum uint64
			for _, n := range counted {
				sum += n
			}
			if n.Counter != "" && (counted[n.Counter] != 1 || sum != 1) {
				t.Errorf("want one %s, counted %v", n.Counter, counted)
			}
			accepted := g.Snapshot().VHIDs[0].MasterSource == p.Src
			if accepted != (n.Verdict == "accept") || n.Counter == "" && sum != 0 {
				t.Errorf("accepted %v, want verdict %s; counted %v", accepted, n.Verdict, counted)
			}
		})
	}
}

type electionFile struct {
	FreeBSD []electionRow `json:"freebsd"`
	OpenBSD []electionRow `json:"openbsd"`
	Timing  []timingRow   `json:"timing"`
}

type electionRow struct {
	State    string `json:"state"`
	Preempt  bool   `json:"preempt"`
	Base     uint8  `json:"advbase"`
	Skew     uint8  `json:"advskew"`
	Demotion int    `json:"demotion"`
	Demote   int    `json:"demote"`
	RxBase   uint8  `json:"rx_advbase"`
	RxSkew   uint8  `json:"rx_advskew"`
	RxDemote uint8  `json:"rx_demote"`
	Next     string `json:"next_state"`
	Reason   string `json:"reason"`
}

type timingRow struct {
	Base     uint8 `json:"advbase"`
	Skew     uint8 `json:"advskew"`
	Demotion int   `json:"demotion"`
	FreeBSD  *struct {
		Wire     uint8 `json:"wire_advskew"`
		Interval int64 `json:"advert_interval_us"`
		First    int64 `json:"first_interval_after_takeover_us"`
		Down     int64 `json:"master_down_us"`
	} `json:"freebsd"`
}

// machineIn brings a machine to the state of a row.
func machineIn(t *testing.T, row electionRow, cfg MachineConfig) *Machine {
	t.Helper()
	m := NewMachine(cfg)
	m.SetDemotion(start, row.Demotion+row.Demote, nil)
	if row.State != "INIT" {
		m.SetRunnable(start, true, ReasonInitComplete, nil)
	}
	if row.State == "MASTER" {
		m.Tick(m.Deadline(), nil)
	}
	if m.State().String() != row.State {
		t.Fatalf("could not reach %s", row.State)
	}
	return m
}

func electionReason(acts []Action) string {
	for _, a := range acts {
		if a.Kind == BecomeMaster || a.Kind == BecomeBackup || a.Kind == BecomeInit {
			return string(a.Reason)
		}
	}
	return ""
}

func TestElectionIsFreeBSDs(t *testing.T) {
	testElection(t, load[electionFile](t, "carp-election.json").FreeBSD, false, map[string]string{
		"none": "", "stay": "", "timer reset": "",
	})
}

func TestElectionWithDemoteByteIsOpenBSDs(t *testing.T) {
	testElection(t, load[electionFile](t, "carp-election.json").OpenBSD, true, map[string]string{
		"none": "", "stay": "", "timer reset": "",
		"preempt": string(ReasonPreempt), "better advertisement": string(ReasonMoreFrequent),
	})
}

func testElection(t *testing.T, rows []electionRow, openBSD bool, words map[string]string) {
	t.Helper()
	if len(rows) != 480 {
		t.Fatalf("%d rows", len(rows))
	}
	from := netip.MustParseAddr("192.0.2.3")
	for i, row := range rows {
		m := machineIn(t, row, MachineConfig{Base: row.Base, Skew: row.Skew, Preempt: row.Preempt, DemoteByte: openBSD, IPv4: true})
		adv := Encode(make([]byte, HeaderLen), 1, row.RxBase, row.RxSkew, row.RxDemote)
		now := start.Add(time.Millisecond)
		before := m.Deadline()
		acts := m.Receive(now, adv, from, IPv4, nil)
		want, ok := words[row.Reason]
		if !ok {
			want = row.Reason
		}
		if got := electionReason(acts); m.State().String() != row.Next || got != want {
			t.Errorf("row %d %+v: %v %q", i, row, m.State(), got)
		}
		if row.Reason == "timer reset" && !m.Deadline().Equal(before.Add(time.Millisecond)) {
			t.Errorf("row %d: master-down timer was not armed again", i)
		}
	}
}

func TestTimersAreFreeBSDs(t *testing.T) {
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	for i, row := range load[electionFile](t, "carp-election.json").Timing {
		if row.FreeBSD == nil {
			continue
		}
		m := NewMachine(MachineConfig{Base: row.Base, Skew: row.Skew, IPv4: true})
		m.SetDemotion(start, row.Demotion, nil)
		m.SetRunnable(start, true, ReasonInitComplete, nil)
		took := m.Deadline()
		if got := took.Sub(start); got != us(row.FreeBSD.Down) {
			t.Errorf("row %d: master down %v", i, got)
		}
		acts := m.Tick(took, nil)
		if len(acts) != 2 || acts[0].Kind != BecomeMaster || acts[1].Kind != SendAdvert || acts[1].Skew != row.FreeBSD.Wire {
			t.Errorf("row %d: takeover %+v", i, acts)
		}
		second := m.Deadline()
		if got := second.Sub(took); got != us(row.FreeBSD.First) {
			t.Errorf("row %d: first interval %v", i, got)
		}
		m.Tick(second, nil)
		if got := m.Deadline().Sub(second); got != us(row.FreeBSD.Interval) {
			t.Errorf("row %d: interval %v", i, got)
		}
	}
}

type vrrpFile struct {
	Vectors []struct {
		ID        string       `json:"id"`
		VRID      uint8        `json:"vrid"`
		Priority  uint8        `json:"priority"`
		Interval  int          `json:"max_adver_int_cs"`
		Addresses []netip.Addr `json:"addresses"`
		Payload   hexBytes     `json:"vrrp_payload_hex"`
		Index     int          `json:"pcap_index"`
	} `json:"vectors"`
}

func TestVRRP3IsRecognised(t *testing.T) {
	frames := pcapFrames(t, "carp-vrrp3.pcap")
	for _, v := range load[vrrpFile](t, "carp-vrrp3.json").Vectors {
		t.Run(v.ID, func(t *testing.T) {
			p := packetOf(t, 1, frames[v.Index])
			if !bytes.Equal(p.Payload, v.Payload) {
				t.Fatal("pcap and json disagree")
			}
			f, ok := ParseForeign(p.Payload, p.Src, p.Dst)
			if !ok || f.Protocol != ProtocolVRRP3 || f.ID != v.VRID || f.Priority != v.Priority ||
				f.Interval != time.Duration(v.Interval)*10*time.Millisecond {
				t.Fatalf("%+v %v", f, ok)
			}
			for i := range v.Addresses {
				if f.Addresses[i] != v.Addresses[i] {
					t.Errorf("addresses %v, want %v", f.Addresses, v.Addresses)
				}
			}
			broken := bytes.Clone(p.Payload)
			broken[2]++
			if _, ok := ParseForeign(broken, p.Src, p.Dst); ok {
				t.Error("accepted with a wrong checksum")
			}
		})
	}
}

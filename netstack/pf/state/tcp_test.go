package state

import (
	"strings"
	"testing"
	"time"

	"tandem/netstack/packet"
)

const (
	issClient = uint32(0xffff_ff00) // numbers wrap early
	issServer = uint32(0x7fff_ff00)
)

// segment is one line of a conversation. Numbers count from the initial ones
// of their senders, so the first octet of data is 1.
type segment struct {
	from     byte // 'c' or 's'
	flags    string
	seq, ack int
	data     int
	win      uint16
	scale    int // of a SYN; none: no option
	want     Reason
	state    string // afterwards; "" is not looked at
}

const none = -1

func tcpFlags(s string) (f uint8) {
	for _, c := range s {
		f |= 1 << strings.IndexRune("FSRPAUEC", c)
	}
	return f
}

// tcpView is the segment as a packet of flow t; options are real ones.
func (s segment) view(t packet.Tuple) *packet.View {
	v := view(t, s.data)
	v.TCPFlags, v.Window = tcpFlags(s.flags), s.win
	mine, theirs := issClient, issServer
	if s.from == 's' {
		mine, theirs = theirs, mine
	}
	v.Seq = mine + uint32(s.seq)
	if v.TCPFlags&packet.ACK != 0 {
		v.Ack = theirs + uint32(s.ack)
	}
	if v.TCPFlags&packet.SYN != 0 && s.scale != none {
		addOptions(v, 2, 4, 5, 0xb4, 1, 3, 3, byte(s.scale))
	}
	return v
}

func addOptions(v *packet.View, o ...byte) {
	v.B = make([]byte, v.L4+20, v.L4+20+len(o))
	v.B = append(v.B, o...)
	v.Payload += len(o)
	v.End += len(o)
}

// tcpTalk is one connection through a table.
type tcpTalk struct {
	*testing.T
	table *Table
	spec  *Spec
	id    ID
	now   int64
}

func newTalk(t *testing.T, sloppy bool) *tcpTalk {
	s := natted(packet.ProtoTCP)
	s.Sloppy = sloppy
	return &tcpTalk{T: t, table: newTable(t, nil), spec: s, now: start}
}

// say sends a segment: the first one makes the state.
func (c *tcpTalk) say(s segment) Hit {
	c.now += second
	if c.id == 0 {
		c.spec.View = s.view(c.spec.In)
		c.id = mustInsert(c, c.table, c.now, c.spec)
		return Hit{}
	}
	before, _ := c.table.First(c.id)
	iface, tuple := uint16(lan), c.spec.In
	if s.from == 's' {
		iface, tuple = wan, c.spec.Out.Reverse()
	}
	h := match(c.table, c.now, iface, s.view(tuple))
	if h.Reason != OK {
		place := c.id.Place()
		if after, _ := c.table.First(c.id); h.Verdict != Drop || after != before {
			c.Errorf("dropped at %d, yet changed: %+v", place, after)
		}
	}
	return h
}

func (c *tcpTalk) run(lines []segment) {
	c.Helper()
	for i, s := range lines {
		h := c.say(s)
		if h.Reason != s.want || (h.Verdict == Miss) != (i == 0) {
			c.Fatalf("line %d %+v: %v, %v", i, s, h.Verdict, h.Reason)
		}
		if f, _ := c.table.First(c.id); s.state != "" && f.State() != s.state {
			c.Fatalf("line %d %+v: state %s", i, s, f.State())
		}
	}
}

// hello is a handshake with 64 KiB windows, scaled by 2^7 on both sides.
var hello = []segment{
	{'c', "S", 0, 0, 0, 64240, 7, OK, "SYN_SENT:CLOSED"},
	{'s', "SA", 0, 1, 0, 65160, 7, OK, "ESTABLISHED:SYN_SENT"},
	{'c', "A", 1, 1, 0, 502, none, OK, "ESTABLISHED:ESTABLISHED"},
}

func TestTCPConversations(t *testing.T) {
	tests := []struct {
		name  string
		lines []segment
	}{
		{"request, answer, close", append(hello[:3:3],
			segment{'c', "PA", 1, 1, 100, 502, none, OK, "ESTABLISHED:ESTABLISHED"},
			segment{'s', "PA", 1, 101, 60000, 501, none, OK, ""},
			segment{'c', "A", 101, 60001, 0, 900, none, OK, ""},
			segment{'c', "FA", 101, 60001, 0, 900, none, OK, "CLOSING:ESTABLISHED"},
			segment{'s', "A", 60001, 102, 0, 501, none, OK, "FIN_WAIT_2:ESTABLISHED"},
			segment{'s', "FA", 60001, 102, 0, 501, none, OK, "FIN_WAIT_2:CLOSING"},
			segment{'c', "A", 102, 60002, 0, 900, none, OK, "FIN_WAIT_2:FIN_WAIT_2"})},
		{"both close at once", append(hello[:3:3],
			segment{'c', "FA", 1, 1, 0, 502, none, OK, "CLOSING:ESTABLISHED"},
			segment{'s', "FA", 1, 1, 0, 501, none, OK, "FIN_WAIT_2:CLOSING"}, // as pf: any ACK after a FIN
			segment{'c', "A", 2, 2, 0, 502, none, OK, "FIN_WAIT_2:FIN_WAIT_2"},
			segment{'s', "A", 2, 2, 0, 501, none, OK, "FIN_WAIT_2:FIN_WAIT_2"})},
		{"half closed: the other goes on", append(hello[:3:3],
			segment{'c', "FA", 1, 1, 0, 502, none, OK, ""},
			segment{'s', "A", 1, 2, 40000, 501, none, OK, "FIN_WAIT_2:ESTABLISHED"},
			segment{'c', "A", 2, 40001, 0, 502, none, OK, ""},
			segment{'s', "A", 40001, 2, 40000, 501, none, OK, "FIN_WAIT_2:ESTABLISHED"},
			segment{'s', "R", 0x40000, 0, 0, 0, none, BadReset, "FIN_WAIT_2:ESTABLISHED"},
			segment{'c', "R", 60, 0, 0, 0, none, BadReset, "FIN_WAIT_2:ESTABLISHED"},
			segment{'c', "R", 2, 0, 0, 0, none, OK, "TIME_WAIT:TIME_WAIT"})},
		{"SYN and SYN ACK again", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, "SYN_SENT:CLOSED"},
			{'c', "S", 0, 0, 0, 64240, 7, OK, "SYN_SENT:CLOSED"},
			{'s', "SA", 0, 1, 0, 65160, 7, OK, "ESTABLISHED:SYN_SENT"},
			{'s', "SA", 0, 1, 0, 65160, 7, OK, "ESTABLISHED:SYN_SENT"},
			{'c', "S", 0, 0, 0, 64240, 7, OK, "ESTABLISHED:SYN_SENT"},
			{'c', "A", 1, 1, 0, 502, none, OK, "ESTABLISHED:ESTABLISHED"},
			{'s', "A", 1, 1, 64240, 502, none, OK, ""}, // the window of the last SYN, not 128 times it
			{'s', "A", 64241, 1, 128, 502, none, BadWindow, ""}}},
		{"simultaneous open", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, "SYN_SENT:CLOSED"},
			{'s', "S", 0, 0, 0, 65160, 7, OK, "SYN_SENT:SYN_SENT"},
			{'c', "SA", 0, 1, 0, 64240, 7, OK, "SYN_SENT:ESTABLISHED"},
			{'s', "SA", 0, 1, 0, 65160, 7, OK, "ESTABLISHED:ESTABLISHED"},
			{'c', "A", 1, 1, 1000, 502, none, OK, "ESTABLISHED:ESTABLISHED"}}},
		{"refused", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, ""},
			{'s', "RA", 0, 1, 0, 0, none, OK, "TIME_WAIT:TIME_WAIT"}}},
		{"refused after a second SYN", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, ""},
			{'c', "S", 0, 0, 0, 64240, 7, OK, ""},
			{'s', "RA", 0, 1, 0, 0, none, OK, "TIME_WAIT:TIME_WAIT"}}},
		{"forged refusals", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, ""},
			{'s', "R", 0, 0, 0, 0, none, BadReset, "SYN_SENT:CLOSED"},
			{'s', "RA", 0, 1000, 0, 0, none, BadReset, "SYN_SENT:CLOSED"},
			{'s', "RA", 0, -1, 0, 0, none, BadReset, "SYN_SENT:CLOSED"},
			{'s', "SA", 0, 1, 0, 65160, 7, OK, "ESTABLISHED:SYN_SENT"}}},
		{"client gives up its SYN", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, ""},
			{'c', "RA", 1, 0, 0, 0, none, OK, "TIME_WAIT:TIME_WAIT"}}},
		{"resets", append(hello[:3:3],
			segment{'c', "A", 1, 1, 100, 502, none, OK, ""},
			segment{'c', "R", 50, 0, 0, 0, none, BadReset, ""},
			segment{'c', "R", 103, 0, 0, 0, none, BadReset, ""},
			segment{'s', "R", 60000, 0, 0, 0, none, BadReset, ""},
			segment{'s', "RA", -5, 101, 0, 0, none, BadReset, "ESTABLISHED:ESTABLISHED"},
			segment{'s', "RA", 1, 101, 0, 0, none, OK, "TIME_WAIT:TIME_WAIT"})},
		{"out of the window", append(hello[:3:3],
			segment{'s', "A", 1, 1, 64240, 501, none, OK, ""},
			segment{'s', "A", 64241, 1, 1460, 501, none, BadWindow, ""},
			segment{'s', "A", 1 << 30, 1, 1460, 501, none, BadWindow, ""},
			segment{'s', "A", 1 << 30, 1, 0, 501, none, OK, ""}, // without data pf is mild
			segment{'c', "A", 1, 900_000, 10, 502, none, BadWindow, ""},
			segment{'c', "A", 1, -20_000_000, 10, 502, none, BadWindow, ""},
			segment{'c', "A", 1, 64241, 0, 502, none, OK, ""},
			segment{'s', "A", 64241, 1, 64256, 501, none, OK, ""},
			segment{'s', "A", 64241, 1, 64257, 501, none, BadWindow, ""})},
		{"retransmission no more than a window back", append(hello[:3:3],
			segment{'s', "A", 1, 1, 60000, 501, none, OK, ""},
			segment{'c', "A", 1, 60001, 0, 502, none, OK, ""},
			segment{'s', "A", 60001, 1, 60000, 501, none, OK, ""},
			segment{'s', "A", 60001, 1, 1460, 501, none, OK, ""},
			segment{'s', "A", 120001 - 64256, 1, 1460, 501, none, OK, ""},
			segment{'s', "A", 120001 - 64257, 1, 1460, 501, none, BadWindow, ""})},
		{"keepalive, window probe, challenge", append(hello[:3:3],
			segment{'c', "A", 1, 1, 500, 502, none, OK, ""},
			segment{'s', "A", 1, 501, 0, 0, none, OK, ""}, // its window is shut now
			segment{'c', "A", 500, 1, 0, 502, none, OK, ""},
			segment{'c', "A", 500, 1, 1, 502, none, OK, ""},
			segment{'c', "A", 501, 1, 1, 502, none, OK, ""}, // a probe of one octet
			segment{'s', "A", 1, 501, 0, 0, none, OK, ""},
			segment{'c', "S", 501, 0, 0, 64240, 7, OK, "ESTABLISHED:ESTABLISHED"}, // forged, but in the window
			segment{'s', "A", 1, 501, 0, 400, none, OK, "ESTABLISHED:ESTABLISHED"},
			segment{'c', "S", 50_000_000, 0, 0, 64240, 7, BadWindow, "ESTABLISHED:ESTABLISHED"})},
		{"server remembers an older connection", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, ""},
			{'s', "A", 777, 1 << 28, 0, 501, none, BadWindow, "SYN_SENT:CLOSED"},
			{'s', "SA", 0, 1, 0, 65160, 7, OK, "ESTABLISHED:SYN_SENT"}}},
		{"only one side scales", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, ""},
			{'s', "SA", 0, 1, 0, 8192, none, OK, ""},
			{'c', "A", 1, 1, 0, 64240, none, OK, ""},
			{'c', "A", 1, 1, 8192, 64240, none, OK, ""},
			{'c', "A", 8193, 1, 1, 64240, none, BadWindow, ""},
			{'s', "A", 1, 8193, 64256, 8192, none, OK, ""}, // the SYN's window in units of 128
			{'s', "A", 64257, 8193, 1, 8192, none, BadWindow, ""}}},
		{"server alone offers scale", []segment{
			{'c', "S", 0, 0, 0, 64240, none, OK, ""},
			{'s', "SA", 0, 1, 0, 8192, 7, OK, ""},
			{'c', "A", 1, 1, 8192, 64240, none, OK, ""},
			{'c', "A", 8193, 1, 1, 64240, none, BadWindow, ""}}},
		{"data in the SYN", []segment{
			{'c', "S", 0, 0, 900, 64240, 7, OK, ""},
			{'s', "SA", 0, 901, 0, 65160, 7, OK, ""},
			{'c', "A", 901, 1, 1000, 502, none, OK, "ESTABLISHED:ESTABLISHED"}}},
		{"flags that do not exist", append(hello[:3:3],
			segment{'c', "SF", 1, 1, 0, 502, none, BadFlags, ""},
			segment{'c', "SR", 1, 1, 0, 502, none, BadFlags, ""},
			segment{'c', "F", 1, 1, 0, 502, none, BadFlags, ""},
			segment{'c', "", 1, 1, 0, 502, none, BadFlags, ""},
			segment{'c', "UPF", 1, 1, 0, 502, none, BadFlags, "ESTABLISHED:ESTABLISHED"})},
		{"a late segment after the close", append(hello[:3:3],
			segment{'c', "FA", 1, 1, 0, 502, none, OK, ""},
			segment{'s', "FA", 1, 2, 0, 501, none, OK, "FIN_WAIT_2:CLOSING"},
			segment{'c', "A", 2, 2, 0, 502, none, OK, "FIN_WAIT_2:FIN_WAIT_2"},
			segment{'s', "FA", 65000, 2, 0, 501, none, OK, "FIN_WAIT_2:FIN_WAIT_2"},
			segment{'s', "FA", 1 << 24, 2, 100, 501, none, BadWindow, ""})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { newTalk(t, false).run(tt.lines) })
	}
}

func TestMixedUpHandshakeAsksForReset(t *testing.T) {
	c := newTalk(t, false)
	c.run([]segment{{'c', "S", 0, 0, 0, 64240, 7, OK, ""}})
	if h := c.say(segment{'s', "A", 777, 1 << 28, 0, 501, none, OK, ""}); !h.Reset || h.Reason != BadWindow {
		t.Errorf("%+v", h)
	}
	if h := c.say(segment{'s', "RA", 777, 1 << 28, 0, 501, none, OK, ""}); h.Reset || h.Reason != BadReset {
		t.Errorf("an RST is answered by one: %+v", h)
	}
}

func TestSloppyFollowsFlagsAlone(t *testing.T) {
	tests := []struct {
		name  string
		lines []segment
	}{
		{"both sides", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, "SYN_SENT:CLOSED"},
			{'s', "SA", 1 << 20, 1 << 21, 0, 0, 7, OK, "ESTABLISHED:SYN_SENT"},
			{'c', "A", 1 << 22, 1 << 23, 9999, 0, none, OK, "ESTABLISHED:ESTABLISHED"},
			{'c', "FA", 5, 5, 0, 0, none, OK, "CLOSING:ESTABLISHED"},
			{'c', "A", 5, 5, 0, 0, none, OK, "CLOSING:ESTABLISHED"},
			{'s', "FA", 5, 5, 0, 0, none, OK, "FIN_WAIT_2:CLOSING"},
			{'c', "A", 5, 5, 0, 0, none, OK, "FIN_WAIT_2:FIN_WAIT_2"}}},
		{"the client's side only", []segment{
			{'c', "S", 0, 0, 0, 64240, 7, OK, "SYN_SENT:CLOSED"},
			{'c', "A", 1, 1, 0, 502, none, OK, "ESTABLISHED:ESTABLISHED"},
			{'c', "A", 1, 9, 50, 502, none, OK, "ESTABLISHED:ESTABLISHED"},
			{'c', "FA", 51, 9, 0, 502, none, OK, "CLOSING:CLOSING"},
			{'c', "A", 52, 10, 0, 502, none, OK, "CLOSING:FIN_WAIT_2"}}},
		{"picked up in the middle", []segment{
			{'c', "PA", 5000, 7000, 100, 502, none, OK, "SYN_SENT:CLOSED"},
			{'s', "A", 7000, 5100, 0, 502, none, OK, "ESTABLISHED:CLOSED"},
			{'c', "SF", 0, 0, 0, 0, none, BadFlags, ""},
			{'s', "R", 0, 0, 0, 0, none, OK, "TIME_WAIT:TIME_WAIT"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { newTalk(t, true).run(tt.lines) })
	}
}

func TestSYNOnAClosedConnectionIsANewOne(t *testing.T) {
	goodbye := map[string][]segment{
		"closed": {
			{'c', "FA", 1, 1, 0, 502, none, OK, ""},
			{'s', "FA", 1, 2, 0, 501, none, OK, ""},
			{'c', "A", 2, 2, 0, 502, none, OK, ""}},
		"reset": {{'s', "R", 1, 0, 0, 0, none, OK, ""}},
	}
	for name, lines := range goodbye {
		t.Run(name, func(t *testing.T) {
			c := newTalk(t, false)
			c.run(append(hello[:3:3], lines...))
			if h := c.say(segment{'s', "S", 9, 0, 0, 64240, 7, OK, ""}); h.Verdict == Miss {
				t.Fatalf("a SYN of the responder ends it: %+v", h)
			}
			h := c.say(segment{'c', "S", 1 << 29, 0, 0, 64240, 7, OK, ""})
			if h.Verdict != Miss {
				t.Fatalf("%+v", h)
			}
			if s := c.table.Stats(); s.States != 0 || s.Removals != 1 {
				t.Errorf("%+v", s)
			}
			check(t, c.table)
			mustInsert(t, c.table, c.now, c.spec)
		})
	}
	c := newTalk(t, false)
	c.run(append(hello[:3:3],
		segment{'c', "FA", 1, 1, 0, 502, none, OK, ""},
		segment{'s', "A", 1, 2, 0, 501, none, OK, "FIN_WAIT_2:ESTABLISHED"}))
	if h := c.say(segment{'c', "S", 1 << 29, 0, 0, 64240, 7, OK, ""}); h.Verdict != Drop {
		t.Errorf("a SYN ends a connection that lives: %+v", h)
	}
}

func TestTCPTimeoutsFollowTheStates(t *testing.T) {
	n := Normal()
	steps := []struct {
		say  segment
		want time.Duration
	}{
		{hello[0], n.TCPFirst},
		{hello[0], n.TCPOpening},
		{hello[1], n.TCPOpening},
		{hello[2], n.TCPEstablished},
		{segment{'c', "FA", 1, 1, 0, 502, none, OK, ""}, n.TCPClosing},
		{segment{'s', "A", 1, 2, 0, 501, none, OK, ""}, n.TCPClosing},
		{segment{'s', "FA", 1, 2, 0, 501, none, OK, ""}, n.TCPFinWait},
		{segment{'c', "A", 2, 2, 0, 502, none, OK, ""}, n.TCPClosed},
		// Tolerated once it is over, and without effect on its time.
		{segment{'s', "FA", 65000, 2, 0, 501, none, OK, ""}, n.TCPClosed - time.Second},
	}
	c := newTalk(t, false)
	for i, s := range steps {
		c.say(s.say)
		f, _ := c.table.First(c.id)
		if got := time.Duration(f.Expires - c.now); got < s.want-200*time.Millisecond || got > s.want+200*time.Millisecond {
			t.Errorf("step %d: expires in %v, want %v", i, got, s.want)
		}
	}
}

func TestWindowScaleOption(t *testing.T) {
	tests := []struct {
		name    string
		options []byte
		want    uint8
	}{
		{"none", nil, 0},
		{"alone", []byte{3, 3, 5, 0}, scaleAgree | 5},
		{"behind others", []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7}, scaleAgree | 7},
		{"zero", []byte{1, 3, 3, 0}, scaleAgree},
		{"more than 14", []byte{1, 3, 3, 200}, scaleAgree | 14},
		{"behind the end", []byte{0, 3, 3, 7}, 0},
		{"wrong length", []byte{3, 4, 7, 0}, 0},
		{"cut", []byte{1, 1, 3, 3}, 0},
		{"length zero", []byte{2, 0, 3, 3, 7}, 0},
		{"kind alone", []byte{1, 1, 1, 3}, 0},
	}
	for _, tt := range tests {
		v := view(natted(packet.ProtoTCP).In, 0)
		addOptions(v, tt.options...)
		if got := windowScale(v); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	if got := windowScale(&packet.View{L4: 34, Payload: 60, B: make([]byte, 50)}); got != 0 {
		t.Errorf("a short buffer: %#x", got)
	}
}

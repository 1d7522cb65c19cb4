package host

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tandem/netstack/link"
)

func megabyte() []byte {
	data := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(data)
	return data
}

func TestTCPCarriesAMegabyteBothWays(t *testing.T) {
	for _, addr := range []string{"10.0.0.2:80", "[2001:db8::2]:80", "[fe80::2%wan]:80"} {
		for _, cut := range []bool{false, true} {
			t.Run(addr+map[bool]string{false: " whole", true: " cut"}[cut], func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *bubble) {
					w.cut = cut
					w.listen(w.b, addr)
					c, err := w.dial(w.a, addr)
					if err != nil {
						t.Fatal(err)
					}
					w.echo(c, megabyte())
					if w.a.gso == 0 || w.b.gso == 0 {
						t.Errorf("coalesced frames: %d and %d", w.a.gso, w.b.gso)
					}
					c.Close()
					w.run(time.Second)
				})
			})
		}
	}
}

func TestTCPSurvivesLossAndAnIdleHour(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		r := rand.New(rand.NewPCG(1, 2))
		w.a.lost = func([]byte) bool { return r.IntN(50) == 0 }
		w.listen(w.b, "10.0.0.2:80")
		c, err := w.dial(w.a, "10.0.0.2:80")
		if err != nil {
			t.Fatal(err)
		}
		w.echo(c, megabyte()[:200<<10])
		time.Sleep(time.Hour)
		w.echo(c, []byte("still there"))
		if w.a.Stats().Retransmitted+w.b.Stats().Retransmitted == 0 {
			t.Error("nothing was lost")
		}
	})
}

func TestListenerOnAVirtualAddressFollowsIt(t *testing.T) {
	for _, vip := range []string{"10.0.0.200", "2001:db8::200"} {
		t.Run(vip, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *bubble) {
				at := netip.MustParseAddr(vip)
				w.listen(w.b, netip.AddrPortFrom(at, 443).String())
				u, err := w.b.ListenUDP(wan, netip.AddrPortFrom(at, 53))
				if err != nil {
					t.Fatal(err)
				}
				go answerUDP(u)
				own := prefixes['b']
				held := append(append([]netip.Prefix(nil), own...), netip.PrefixFrom(at, own[0].Bits()))

				w.expectSilence(at, "before it is held")
				must(t, w.b.SetAddresses(wan, held))
				c := w.expectService(at)
				must(t, w.b.SetAddresses(wan, own))
				sent := len(w.b.sent)
				w.do(time.Second, func() { c.Write([]byte("anybody there?")) })
				w.run(5 * time.Second)
				if len(w.b.sent) != sent {
					t.Errorf("%d packets on a connection to an address that is gone", len(w.b.sent)-sent)
				}
				w.expectSilence(at, "after it is gone")
				must(t, w.b.SetAddresses(wan, held))
				w.run(10 * time.Second)
				w.expectService(at)
			})
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func answerUDP(c net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], from)
	}
}

func (w *bubble) expectSilence(at netip.Addr, when string) {
	w.t.Helper()
	sent := len(w.b.sent)
	if c, err := w.dial(w.a, netip.AddrPortFrom(at, 443).String()); err == nil {
		c.Close()
		w.t.Errorf("connected %s", when)
	}
	if _, ok := w.askUDP(at); ok {
		w.t.Errorf("UDP answered %s", when)
	}
	if _, err := w.ping(w.a, PingConfig{Remote: at, ID: 9}); !errors.Is(err, ErrTimeout) {
		w.t.Errorf("ping %s: %v", when, err)
	}
	if len(w.b.sent) != sent {
		w.t.Errorf("%d packets left %s", len(w.b.sent)-sent, when)
	}
}

func (w *bubble) expectService(at netip.Addr) net.Conn {
	w.t.Helper()
	c, err := w.dial(w.a, netip.AddrPortFrom(at, 443).String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.echo(c, []byte("hello"))
	if from, ok := w.askUDP(at); !ok || from != at {
		w.t.Errorf("UDP answered %v from %v", ok, from)
	}
	if r, err := w.ping(w.a, PingConfig{Remote: at, ID: 9}); err != nil || !r.IsEcho() {
		w.t.Errorf("ping: %+v %v", r, err)
	}
	return c
}

// askUDP says from where a question was answered.
func (w *bubble) askUDP(at netip.Addr) (from netip.Addr, ok bool) {
	w.t.Helper()
	c, err := w.a.ListenUDP(wan, netip.AddrPortFrom(prefixes['a'][0].Addr(), 0))
	if at.Is6() {
		c.Close()
		c, err = w.a.ListenUDP(wan, netip.AddrPortFrom(prefixes['a'][1].Addr(), 0))
	}
	must(w.t, err)
	defer c.Close()
	w.do(5*time.Second, func() {
		c.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 53)))
		c.SetReadDeadline(time.Now().Add(time.Second))
		b := make([]byte, 100)
		if _, addr, err := c.ReadFrom(b); err == nil {
			from, ok = addr.(*net.UDPAddr).AddrPort().Addr().Unmap(), true
		}
	})
	return from, ok
}

func TestGuestIsSilentByItself(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		must(t, w.a.SetAddresses(lan, []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24"), netip.MustParsePrefix("2001:db8:1::1/64")}))
		must(t, w.a.JoinGroup(wan, netip.MustParseAddr("ff02::1:2")))
		must(t, w.a.JoinGroup(wan, netip.MustParseAddr("224.0.0.18")))
		w.run(10 * time.Second)
		if n := w.a.Stats().Queued; n != 0 {
			t.Errorf("%d packets", n)
		}
	})
}

func TestBroadcastStaysOnItsInterface(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		must(t, w.a.SetAddresses(lan, []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24")}))
		any67 := netip.MustParseAddrPort("0.0.0.0:67")
		onWAN, err := w.a.ListenUDP(wan, any67)
		must(t, err)
		onLAN, err := w.a.ListenUDP(lan, any67)
		must(t, err)
		client, err := w.b.ListenUDP(wan, netip.MustParseAddrPort("0.0.0.0:68"))
		must(t, err)
		w.do(time.Second, func() {
			client.WriteTo([]byte("discover"), &net.UDPAddr{IP: net.IPv4bcast, Port: 67})
		})
		b := make([]byte, 100)
		w.do(2*time.Second, func() {
			if n, _, err := onWAN.ReadFrom(b); err != nil || string(b[:n]) != "discover" {
				t.Errorf("%q %v", b[:n], err)
			}
			onLAN.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, _, err := onLAN.ReadFrom(b); err == nil {
				t.Errorf("LAN heard %q", b[:n])
			}
		})
		sent := len(w.a.sent)
		w.do(time.Second, func() { // To a client without an address: no neighbour is asked for.
			onWAN.WriteTo([]byte("offer"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 77), Port: 68})
			onWAN.WriteTo([]byte("offer"), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		})
		if len(w.a.sent) != sent+2 {
			t.Errorf("%d offers left by WAN", len(w.a.sent)-sent)
		}
	})
}

func TestSourceIsTheInterfacesOwn(t *testing.T) {
	p := netip.MustParsePrefix
	inBubble(t, func(t *testing.T, w *bubble) {
		w.listen(w.b, "10.0.0.2:80")
		w.listen(w.b, "[2001:db8::2]:80")
		// The VIPs match the destination longer than the own addresses do.
		must(t, w.a.SetAddresses(wan, []netip.Prefix{
			p("10.0.0.1/24"), p("fe80::1/64"), p("2001:db8::ffff/64"), p("10.0.0.3/24"), p("2001:db8::3/64"),
		}))
		for remote, want := range map[string]string{"10.0.0.2:80": "10.0.0.1", "[2001:db8::2]:80": "2001:db8::ffff"} {
			c, err := w.dial(w.a, remote)
			must(t, err)
			if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != want {
				t.Errorf("to %s from %s, want %s", remote, got, want)
			}
			c.Close()
		}
	})
}

func TestConnectionsSurviveOtherChangesOfAddresses(t *testing.T) {
	p := netip.MustParsePrefix
	inBubble(t, func(t *testing.T, w *bubble) {
		w.listen(w.b, "10.0.0.2:80")
		must(t, w.a.SetAddresses(wan, []netip.Prefix{p("10.0.0.1/24")}))
		c, err := w.dial(w.a, "10.0.0.2:80")
		must(t, err)
		for _, list := range [][]netip.Prefix{
			{p("10.0.0.1/24"), p("10.0.0.200/24")},
			{p("10.0.0.200/24"), p("10.0.0.1/24")}, // no longer the first
			{p("10.0.0.9/24"), p("10.0.0.1/24")},
			{p("10.0.0.1/24")},
		} {
			must(t, w.a.SetAddresses(wan, list))
			w.echo(c, []byte("still there"))
		}
	})
}

func TestDatagramForAnotherInterfacesAddressIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		must(t, w.b.SetAddresses(lan, []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24")}))
		l, err := w.b.ListenTCP(lan, netip.MustParseAddrPort("172.16.0.1:80"))
		must(t, err)
		go serveEcho(l)
		w.a.SetRoutes(append([]Route{{netip.MustParsePrefix("172.16.0.0/24"), wan}}, testRoutes...))
		// B answers by its LAN, as far as the guest is concerned; the router
		// knows better.
		w.b.SetRoutes(append([]Route{{netip.MustParsePrefix("10.0.0.0/24"), lan}}, testRoutes...))
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			w.a.DialTCP(ctx, netip.Addr{}, 0, netip.MustParseAddrPort("172.16.0.1:80"))
		}()
		synctest.Wait()
		w.a.Pump()
		if n := w.a.Read(w.frames, w.ifaces); n != 1 || w.ifaces[0] != wan {
			t.Fatalf("%d frames", n)
		}
		w.b.Deliver(wan, w.frames[0].Bytes()[ethernetHeaderLen:])
		w.b.Pump()
		if n := w.b.Read(w.frames, w.ifaces); n != 1 || w.ifaces[0] != lan {
			t.Errorf("%d answers, by interface %d", n, w.ifaces[0])
		}
		w.run(2 * time.Second)
	})
}

func TestTheNodeReachesItself(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		must(t, w.a.SetAddresses(lan, []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24"), netip.MustParsePrefix("fe80::1/64")}))
		for iface, addr := range map[uint16]string{wan: "10.0.0.1:80", lan: "172.16.0.1:80"} {
			l, err := w.a.ListenTCP(iface, netip.MustParseAddrPort(addr))
			must(t, err)
			go serveEcho(l)
			c, err := w.dial(w.a, addr)
			must(t, err)
			w.echo(c, []byte("hello"))
		}
		for iface, zone := range map[uint16]string{wan: "wan", lan: "lan"} { // One address, two interfaces.
			l, err := w.a.ListenTCP(iface, netip.MustParseAddrPort("[fe80::1]:443"))
			must(t, err)
			go serveEcho(l)
			c, err := w.dial(w.a, "[fe80::1%"+zone+"]:443")
			must(t, err)
			w.echo(c, []byte("hello"))
		}
		if n := len(w.a.sent); n != 0 {
			t.Errorf("%d datagrams left the node", n)
		}
	})
}

func TestDialSaysWhyNot(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		tests := []struct {
			name   string
			local  string
			iface  uint16
			remote string
			want   error
		}{
			{"no route", "", 0, "203.0.113.1:80", ErrNoRoute},
			{"no address of that family", "", lan, "10.9.9.9:80", ErrNoAddress},
			{"source not held", "10.0.0.99", 0, "10.0.0.2:80", ErrNoAddress},
			{"no such interface", "", 7, "10.0.0.2:80", ErrNoIface},
			{"no such zone", "", 0, "[fe80::2%dmz]:80", ErrNoIface},
		}
		for _, tt := range tests {
			var local netip.Addr
			if tt.local != "" {
				local = netip.MustParseAddr(tt.local)
			}
			_, err := w.a.DialTCP(context.Background(), local, tt.iface, netip.MustParseAddrPort(tt.remote))
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: TCP %v", tt.name, err)
			}
			if _, err := w.a.DialUDP(local, tt.iface, netip.MustParseAddrPort(tt.remote)); !errors.Is(err, tt.want) {
				t.Errorf("%s: UDP %v", tt.name, err)
			}
		}
		_, err := w.dial(w.a, "10.0.0.2:81")
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("closed port: %v", err)
		}
	})
}

func TestDeliverRefuses(t *testing.T) {
	h := newHost(t, Config{}, prefixes['a']...)
	solicit := make([]byte, 64)
	solicit[0], solicit[6], solicit[7], solicit[40] = 0x60, 58, 255, 135
	for name, b := range map[string][]byte{
		"nothing": nil, "short": {0x45, 0}, "no IP": bytes.Repeat([]byte{0x20}, 60),
		"IPv6 cut short": {0x60, 0, 0, 0}, "neighbour solicitation": solicit,
	} {
		if h.Deliver(wan, b) {
			t.Errorf("%s is taken", name)
		}
	}
	if h.Deliver(9, make([]byte, 40)) {
		t.Error("an interface that is not there")
	}
	h.Close()
	echo := echoRequest(prefixes['b'][0].Addr(), prefixes['a'][0].Addr(), &PingConfig{})
	if h.Deliver(wan, echo[ethernetHeaderLen:]) {
		t.Error("taken after Close")
	}
	if s := h.Stats(); s.Refused != 7 || s.Delivered != 0 {
		t.Errorf("%+v", s)
	}
}

func TestOutputIsBoundedAndWakesOnce(t *testing.T) {
	wakes := 0
	h := newHost(t, Config{QueueLen: 4, Wake: func() { wakes++ }}, prefixes['a']...)
	defer h.Close()
	c, err := h.DialUDP(netip.Addr{}, 0, netip.MustParseAddrPort("10.0.0.2:53"))
	must(t, err)
	for range 10 {
		c.Write([]byte("x"))
	}
	if s := h.Stats(); s.Queued != 10 || s.Dropped != 6 || s.Waiting != 4 || wakes != 1 {
		t.Errorf("%+v, woken %d times", s, wakes)
	}
	frames, ifaces := []*link.Frame{link.NewFrame(20), link.NewFrame(1514)}, make([]uint16, 2)
	if n := h.Read(frames[:1], ifaces); n != 0 || h.Stats().TooLong != 4 {
		t.Errorf("read %d into a short buffer, %+v", n, h.Stats())
	}
	c.Write([]byte("y"))
	c.Write([]byte("z"))
	if n := h.Read(frames[1:], ifaces); n != 1 || wakes != 2 {
		t.Errorf("read %d, woken %d times", n, wakes)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	for _, ifaces := range [][]Interface{{{0, "wan", 1500}}, {{1, "wan", 1500}, {1, "lan", 1500}}} {
		if _, err := New(Config{Interfaces: ifaces}); err == nil {
			t.Errorf("%+v is taken", ifaces)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // The bubble finds goroutines left behind.
		h := newHost(t, Config{}, prefixes['a']...)
		h.Pump()
		var ends []error
		var mu sync.Mutex
		note := func(err error) { mu.Lock(); ends = append(ends, err); mu.Unlock() }
		l, err := h.ListenTCP(wan, netip.MustParseAddrPort("10.0.0.1:80"))
		must(t, err)
		u, err := h.ListenUDP(wan, netip.MustParseAddrPort("[2001:db8::1]:53"))
		must(t, err)
		go func() { _, err := l.Accept(); note(err) }()
		go func() { _, _, err := u.ReadFrom(make([]byte, 10)); note(err) }()
		go func() {
			_, err := h.DialTCP(context.Background(), netip.Addr{}, 0, netip.MustParseAddrPort("10.0.0.2:80"))
			note(err)
		}()
		go func() {
			_, err := h.Ping(context.Background(), PingConfig{Remote: netip.MustParseAddr("10.0.0.2"), Timeout: time.Hour})
			note(err)
		}()
		synctest.Wait()
		h.Pump()
		h.Close()
		h.Close()
		synctest.Wait()
		if len(ends) != 4 {
			t.Errorf("%d of 4 calls have ended: %v", len(ends), ends)
		}
		for _, err := range ends {
			if err == nil {
				t.Error("an error was due")
			}
		}
		if _, err := h.ListenTCP(wan, netip.MustParseAddrPort("10.0.0.1:80")); !errors.Is(err, ErrClosed) {
			t.Errorf("listen after Close: %v", err)
		}
		if err := h.SetAddresses(wan, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("set addresses after Close: %v", err)
		}
		if h.Pump() {
			t.Error("pumped after Close")
		}
	})
}

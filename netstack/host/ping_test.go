package host

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/packet"
)

func (w *bubble) ping(s *station, cfg PingConfig) (r PingReply, err error) {
	w.t.Helper()
	w.do(3*time.Second, func() { r, err = s.Ping(context.Background(), cfg) })
	return r, err
}

func TestPing(t *testing.T) {
	for _, remote := range []string{"10.0.0.2", "2001:db8::2", "fe80::2%wan"} {
		t.Run(remote, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *bubble) {
				at := netip.MustParseAddr(remote)
				for seq := range uint16(3) {
					r, err := w.ping(w.a, PingConfig{Remote: at, ID: 7, Seq: seq, Payload: 56})
					if err != nil || !r.IsEcho() || r.From != at.WithZone("") || r.TTL != 64 {
						t.Errorf("%+v %v", r, err)
					}
				}
				if n := len(w.a.sent); n != 3 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

func TestPingReportsErrorsOnTheWay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		router := map[bool]netip.Addr{true: netip.MustParseAddr("10.0.0.254"), false: netip.MustParseAddr("2001:db8::fe")}
		w.a.lost = func(frame []byte) bool { // A router that finds the hop limit used up.
			var v packet.View
			if packet.Decode(frame, &v) != packet.OK || v.TTL != 1 {
				return false
			}
			is4 := v.Family == 4
			typ := uint8(packet.ICMP6TimeExceeded)
			if is4 {
				typ = packet.ICMP4TimeExceeded
			}
			e := packet.AppendICMPError(nil, &v, router[is4], typ, 0, 0)
			w.a.Deliver(wan, e[ethernetHeaderLen:])
			return true
		}
		for _, remote := range []string{"10.0.0.2", "2001:db8::2"} {
			at := netip.MustParseAddr(remote)
			r, err := w.ping(w.a, PingConfig{Remote: at, TTL: 1, ID: 3})
			if err != nil || r.From != router[at.Is4()] || r.IsEcho() {
				t.Errorf("%s: %+v %v", remote, r, err)
			}
			if r, err = w.ping(w.a, PingConfig{Remote: at, TTL: 2, ID: 3}); err != nil || !r.IsEcho() {
				t.Errorf("%s: %+v %v", remote, r, err)
			}
		}
	})
}

func TestPingFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		at := netip.MustParseAddr
		tests := []struct {
			name string
			cfg  PingConfig
			want error
		}{
			{"nobody there", PingConfig{Remote: at("10.0.0.77")}, ErrTimeout},
			{"no route", PingConfig{Remote: at("203.0.113.1")}, ErrNoRoute},
			{"source not held", PingConfig{Remote: at("10.0.0.2"), Source: at("10.0.0.200")}, ErrNoAddress},
			{"too big", PingConfig{Remote: at("10.0.0.2"), Payload: 1473}, ErrTooBig},
			{"no such interface", PingConfig{Remote: at("10.0.0.2"), Iface: 5}, ErrNoIface},
		}
		for _, tt := range tests {
			if _, err := w.ping(w.a, tt.cfg); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if r, err := w.ping(w.a, PingConfig{Remote: at("10.0.0.2"), Payload: 1472}); err != nil || !r.IsEcho() {
			t.Errorf("just fits: %+v %v", r, err)
		}
		if r, err := w.a.Ping(context.Background(), PingConfig{Remote: at("10.0.0.1")}); err != nil || !r.IsEcho() {
			t.Errorf("ourselves: %+v %v", r, err)
		}
	})
}

func TestPingsAreToldApart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *bubble) {
		remote := netip.MustParseAddr("10.0.0.2")
		w.do(5*time.Second, func() {
			errs := make(chan error, 2)
			one := PingConfig{Remote: remote, ID: 1, Seq: 1, Timeout: 500 * time.Millisecond}
			for range 2 {
				go func() { _, err := w.a.Ping(context.Background(), one); errs <- err }()
			}
			first, second := <-errs, <-errs
			if !errors.Is(first, ErrBusy) || second != nil {
				t.Errorf("%v, %v", first, second)
			}
		})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := w.a.Ping(ctx, PingConfig{Remote: netip.MustParseAddr("10.0.0.77")}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if n := w.a.pings.live.Load(); n != 0 {
			t.Errorf("%d pings left", n)
		}
	})
}

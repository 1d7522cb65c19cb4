package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123456789, time.UTC)

func subscribe(t *testing.T, tap *Tap, expr string, snapLen, queueLen int, ifaces ...string) *Sub {
	t.Helper()
	s, err := tap.Subscribe(expr, snapLen, queueLen, ifaces...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestNobodyListens(t *testing.T) {
	var none *Tap
	none.Offer(noon, "wan", In, []byte{1})
	if none.Active() || New().Active() {
		t.Error("active without a listener")
	}
	tap := New()
	if n := testing.AllocsPerRun(100, func() { tap.Offer(noon, "wan", In, syn4) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestListenersGetWhatTheyAskedFor(t *testing.T) {
	tap := New()
	all := subscribe(t, tap, "", 0, 10)
	lan := subscribe(t, tap, "", 0, 10, "lan", "dmz")
	tcp := subscribe(t, tap, "tcp and in", 20, 10)
	tap.Offer(noon, "wan", In, syn4)
	tap.Offer(noon.Add(time.Second), "lan", Out, syn4)
	tap.Offer(noon, "lan", In, arpWho)
	tap.Offer(noon, "wan", In, []byte{1, 2, 3})

	for _, tt := range []struct {
		sub  *Sub
		want string
	}{
		{all, "wan in 58/58, lan out 58/58, lan in 42/42, wan in 3/3, "},
		{lan, "lan out 58/58, lan in 42/42, "},
		{tcp, "wan in 20/58, "},
	} {
		var p Packet
		var got strings.Builder
		for tt.sub.Poll(&p) {
			fmt.Fprintf(&got, "%s %s %d/%d, ", p.Iface, p.Dir, len(p.Data), p.Len)
		}
		if got.String() != tt.want {
			t.Errorf("got %q, want %q", got.String(), tt.want)
		}
	}
}

func TestFullQueueDropsAndCounts(t *testing.T) {
	tap := New()
	s := subscribe(t, tap, "", 0, 2)
	for i := range 5 {
		tap.Offer(noon, "wan", In, []byte{byte(i)})
	}
	if matched, dropped := s.Counts(); matched != 5 || dropped != 3 {
		t.Errorf("Counts() = %d, %d, want 5, 3", matched, dropped)
	}
	var p Packet
	for i := range 2 {
		if !s.Poll(&p) || p.Data[0] != byte(i) {
			t.Fatalf("packet %d is %v", i, p.Data)
		}
	}
	tap.Offer(noon, "wan", In, []byte{9})
	if !s.Poll(&p) || p.Data[0] != 9 || s.Poll(&p) {
		t.Error("the queue does not go on after it was emptied")
	}
}

func TestQueueMemoryIsBounded(t *testing.T) {
	tap := New()
	s := subscribe(t, tap, "", 0, queueLenMax)
	big := make([]byte, 65535)
	for range queueBytesMax/len(big) + 10 {
		tap.Offer(noon, "wan", In, big)
	}
	if _, dropped := s.Counts(); dropped < 9 {
		t.Errorf("%d dropped, want the excess of 10", dropped)
	}
	if s.bytes > queueBytesMax {
		t.Errorf("%d bytes are held", s.bytes)
	}
}

func TestNextWaitsAndEnds(t *testing.T) {
	tap := New()
	s := subscribe(t, tap, "", 0, 2)
	got := make(chan error)
	var p Packet
	go func() { got <- s.Next(context.Background(), &p) }()
	tap.Offer(noon, "wan", Out, syn4)
	if err := <-got; err != nil || !bytes.Equal(p.Data, syn4) || p.Time != noon {
		t.Errorf("Next() = %v, %+v", err, p)
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Next(ctx, &p); !errors.Is(err, context.Canceled) {
		t.Errorf("Next() = %v, want the context's error", err)
	}

	tap.Offer(noon, "wan", In, arpWho)
	s.Close()
	s.Close()
	tap.Offer(noon, "wan", In, arpWho)
	if err := s.Next(context.Background(), &p); err != nil || !bytes.Equal(p.Data, arpWho) {
		t.Errorf("Next() after Close = %v, want what was queued", err)
	}
	if err := s.Next(context.Background(), &p); !errors.Is(err, ErrClosed) {
		t.Errorf("Next() = %v, want ErrClosed", err)
	}
	if tap.Active() {
		t.Error("active after the last listener left")
	}
}

func TestListeningDoesNotAllocatePerFrame(t *testing.T) {
	tap := New()
	s := subscribe(t, tap, "tcp port 80 or host 10.0.0.1", 0, 4)
	var p Packet
	tap.Offer(noon, "wan", In, syn4)
	s.Poll(&p)
	if n := testing.AllocsPerRun(100, func() {
		for range 4 {
			tap.Offer(noon, "wan", In, syn4)
		}
		for s.Poll(&p) {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSubscribeChecksWhatItIsGiven(t *testing.T) {
	tap := New()
	for _, bad := range []struct {
		expr          string
		snap, waiting int
	}{{"tpc", 0, 0}, {"", -1, 0}, {"", SnapLenMax + 1, 0}, {"", 0, -1}, {"", 0, queueLenMax + 1}} {
		if _, err := tap.Subscribe(bad.expr, bad.snap, bad.waiting); err == nil {
			t.Errorf("Subscribe(%+v) worked", bad)
		}
	}
	for range subsMax {
		subscribe(t, tap, "", 0, 1)
	}
	if _, err := tap.Subscribe("", 0, 1); !errors.Is(err, ErrTooMany) {
		t.Errorf("listener %d: %v", subsMax+1, err)
	}
}

package main

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConnectionsAreAnsweredAndReset(t *testing.T) {
	// Both ends sleep in the kernel without telling the runtime.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	listener, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	bound, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	const connections = 10
	done := make(chan bool)
	go func() {
		for range connections {
			answer(listener)
		}
		close(done)
	}()
	peer := sockaddr(netip.MustParseAddr("127.0.0.1"), bound.(*unix.SockaddrInet4).Port)
	for i := range connections {
		if !connectOnce(&peer) {
			t.Errorf("connection %d failed", i)
		}
	}
	<-done
}

func TestConnectToNobodyIsAnError(t *testing.T) {
	listener, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(listener)
	peer := sockaddr(netip.MustParseAddr("127.0.0.1"), bound.(*unix.SockaddrInet4).Port)
	if connectOnce(&peer) {
		t.Error("a connection to a closed port")
	}
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	var trips []time.Duration
	for i := range 200 {
		trips = append(trips, time.Duration(i+1)*time.Microsecond)
	}
	for _, tt := range []struct {
		n, p int
		want float64
	}{{200, 50, 100}, {200, 99, 198}, {200, 100, 200}, {1, 50, 1}, {1, 99, 1}, {3, 50, 2}, {0, 50, 0}} {
		if got := percentile(trips[:tt.n], tt.p); got != tt.want {
			t.Errorf("p%d of 1..%d us = %v, want %v", tt.p, tt.n, got, tt.want)
		}
	}
}

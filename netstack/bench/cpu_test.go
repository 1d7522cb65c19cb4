package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseBusyLeavesIdleAndStolenTimeOut(t *testing.T) {
	got, err := parseBusy("cpu  100 20 3000 99999 555 7 80 4444 0 0")
	if err != nil || got != 100+20+3000+7+80 {
		t.Errorf("parseBusy() = %d, %v", got, err)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7", "cpu 1 2 3", "cpu 1 2 x 4 5 6 7 8"} {
		if _, err := parseBusy(bad); err == nil {
			t.Errorf("parseBusy(%q): no error", bad)
		}
	}
}

const statTail = " S 42 1 1 0 -1 4194304 10 20 30 40 700 50 6 3 20 0 1 0 100"

func TestParseProcessWithAnyName(t *testing.T) {
	for _, name := range []string{"iperf3", "a b", ") S 1 1 (", ""} {
		p, err := parseProcess("77 (" + name + ")" + statTail)
		if err != nil || p.pid != 77 || p.parent != 42 || p.ticks != 750 || p.reaped != 9 || p.kernel {
			t.Errorf("process %q: %+v, %v", name, p, err)
		}
	}
	for _, bad := range []string{"", "77", "77 (x", "x (y)" + statTail, "77 (x) S 42", "77 (x)" + strings.Replace(statTail, "700", "y", 1)} {
		if _, err := parseProcess(bad); err == nil {
			t.Errorf("parseProcess(%q): no error", bad)
		}
	}
}

func TestUsageTellsWhoseTimeItWas(t *testing.T) {
	const self, device = 10, 20
	begin := time.Unix(1000, 0)
	at := func(s int, machine uint64, ticks ...uint64) moment {
		return moment{at: begin.Add(time.Duration(s) * time.Second), machine: machine, processes: []process{
			{pid: 1, ticks: ticks[0]},
			{pid: kthreadd, kernel: true, ticks: ticks[1]},
			{pid: 14, parent: kthreadd, kernel: true, ticks: ticks[1]}, // ksoftirqd
			{pid: self, parent: 5, ticks: ticks[2], reaped: ticks[3]},  // with iperf3, which has ended
			{pid: device, parent: self, ticks: ticks[4]},
			{pid: 30, parent: self, ticks: ticks[5]}, // a server
			{pid: 5, parent: 1, ticks: ticks[6]},     // the shell
		}}
	}
	before := at(0, 1000, 1, 2, 3, 4, 5, 6, 7)
	after := at(2, 1400, 1, 90, 13, 54, 105, 106, 37)
	want := usage{Wall: 2, Machine: 4, Device: 1, Ends: 0.1 + 0.5 + 1, Foreign: 0.3}
	if got := after.since(before, device, self); got != want {
		t.Errorf("since() = %+v, want %+v", got, want)
	}
}

func TestParseReceivedFindsTheDevice(t *testing.T) {
	const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0
 swan0:    1111     222    0    0    0     0          0         0        0       0    0    0    0     0       0          0
   wan:12345678 4567890    0    0    0     0          0         0      123       4    0    0    0     0       0          0
`
	if n, err := parseReceived(strings.NewReader(table), "wan"); n != 4567890 || err != nil {
		t.Errorf("parseReceived() = %d, %v", n, err)
	}
	if _, err := parseReceived(strings.NewReader(table), "lan"); err == nil {
		t.Error("a device that is not there has a count")
	}
}

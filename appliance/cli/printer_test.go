package cli

import (
	"bytes"
	"testing"
	"time"
)

func TestDurationsSizesAndCounts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0ms", 250 * time.Millisecond: "250ms", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m00s",
		time.Hour + 5*time.Minute: "1h05m", 49 * time.Hour: "2d01h",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %s, want %s", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1536: "1.54 kB", 999499: "999 kB", 999500: "1 MB", 123456789: "123 MB", 1 << 63: "9.22 EB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -123: "-123", -1234: "-1,234"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestTableAlignsAndLeavesOutEmptyColumns(t *testing.T) {
	var out bytes.Buffer
	p := newPrinter(&out, false, now)
	tab := newTable("NAME", ">SIZE", "GONE", "NOTE")
	tab.row("ä", 5, "", "")
	tab.row("long name", 12345, "", "last")
	tab.print(p)
	newTable("X").print(p)
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	want := "NAME        SIZE  NOTE\nä              5\nlong name  12345  last\nnone\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestSinceUnderstandsAgesAndMoments(t *testing.T) {
	a := &app{env: Env{Now: func() time.Time { return now }}}
	for text, want := range map[string]time.Time{
		"": {}, "90s": before(90 * time.Second), "2d": before(48 * time.Hour),
		"2026-03-01":           time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		"2026-03-01 12:30":     time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC),
		"2026-03-04T05:00:00Z": time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC),
		"05:00":                time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC),
		"05:30":                time.Date(2026, 3, 3, 5, 30, 0, 0, time.UTC), // yesterday: today it has not come yet
	} {
		if got, err := a.sinceTime(text); err != nil || !got.Equal(want) {
			t.Errorf("sinceTime(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

package node

import (
	"strings"
	"testing"
	"time"
)

func TestAClockBeforeTheProgramWasMadeIsNamed(t *testing.T) {
	built := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name       string
		now, built time.Time
		want       bool
	}{
		{"right", built.Add(time.Hour), built, false},
		{"1970", time.Unix(3, 0), built, true},
		{"nobody knows when it was built", time.Unix(3, 0), time.Time{}, false},
	}
	for _, tt := range tests {
		a, wrong := wrongClock(tt.now, tt.built, tt.now)
		if wrong != tt.want || wrong && (a.Source != "clock" || !strings.Contains(a.Message, "it says 1970-01-01 00:00:03")) {
			t.Errorf("%s: %v %+v", tt.name, wrong, a)
		}
	}
}

package node

import (
	"fmt"
	"time"

	"tandem/appliance/status"
)

// wrongClock is the alarm about a clock that cannot be right: it says a time
// before the program was made. Addresses and states do not need the time of
// day, but the logs of two nodes can only be laid side by side by it. A zero
// built says nothing.
func wrongClock(now, built, since time.Time) (status.Alarm, bool) {
	if built.IsZero() || !now.Before(built) {
		return status.Alarm{}, false
	}
	return status.Alarm{Severity: status.SeverityWarning, Source: "clock", Since: since, Message: fmt.Sprintf(
		"the clock is wrong: it says %s, and this program is of %s; set the time of the machine, which is where virtual machines fail first",
		now.UTC().Format(time.DateTime), built.UTC().Format(time.DateOnly))}, true
}

package state

// Verdict is what the table says about a packet.
type Verdict uint8

const (
	Miss Verdict = iota // no state: ask the rules
	Pass                // belongs to a state
	Drop                // claims to belong to a state, but must not pass
)

// String is the verdict in one word.
func (v Verdict) String() string {
	switch v {
	case Miss:
		return "miss"
	case Pass:
		return "pass"
	}
	return "drop"
}

// Reason says why a packet was dropped or a state not made. Each is a counter.
type Reason uint8

const (
	OK             Reason = iota
	BadWindow             // TCP segment outside the window
	BadReset              // TCP reset whose number the receiver could not expect
	BadFlags              // TCP flags that no segment of a connection has
	BadQuote              // ICMP error about a TCP segment that was never sent
	WrongInterface        // the state is bound to another interface
	NotAllowed            // the rules now in force refuse this state
	Full                  // the table is at its limit
	Collision             // one of the keys belongs to another state
	BadKey                // families or protocols of the two tuples differ, or the flow is its own answer

	// ReasonCount is the number of reasons.
	ReasonCount
)

var reasonNames = [ReasonCount]string{
	OK: "ok", BadWindow: "bad-window", BadReset: "bad-reset", BadFlags: "bad-flags",
	BadQuote: "bad-quote", WrongInterface: "wrong-interface", NotAllowed: "not-allowed",
	Full: "table-full", Collision: "collision", BadKey: "bad-key",
}

// String is the stable name of the reason's counter.
func (r Reason) String() string {
	if r < ReasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

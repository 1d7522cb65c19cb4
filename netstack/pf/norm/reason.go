package norm

// Reason says why a packet was dropped; [OK] is none. Each one is a counter,
// so numbers and names are only ever added at the end.
type Reason uint8

// The reasons.
const (
	OK                     Reason = iota
	SourceRoute                   // a source route option, or an IPv6 routing header of type 0
	LoopbackAddress               // 127/8 or ::1 from a wire
	MulticastSource               // sent by a group
	BroadcastSource               // sent by 255.255.255.255
	UnspecifiedDestination        // sent to 0.0.0.0 or ::
	Land                          // sent by its own destination
	PortZero                      // TCP or UDP from or to port 0
	BadFlags                      // TCP flags that cannot be together
	OptionsRefused                // IP options where the policy allows none
	FragmentOverlap               // two fragments claim the same bytes
	FragmentLength                // fragments disagree about the datagram's end
	FragmentOversize              // the datagram would exceed 65535 bytes
	FragmentLimit                 // too many fragments of one datagram, or no room for them
	FragmentMark                  // a congestion mark on a datagram that cannot have one
	ReasonCount                   // how many there are, for tables of counters
)

var reasonNames = [ReasonCount]string{
	OK:                     "ok",
	SourceRoute:            "source-route",
	LoopbackAddress:        "loopback-address",
	MulticastSource:        "multicast-source",
	BroadcastSource:        "broadcast-source",
	UnspecifiedDestination: "unspecified-destination",
	Land:                   "land",
	PortZero:               "port-zero",
	BadFlags:               "bad-tcp-flags",
	OptionsRefused:         "options-refused",
	FragmentOverlap:        "fragment-overlap",
	FragmentLength:         "fragment-length",
	FragmentOversize:       "fragment-oversize",
	FragmentLimit:          "fragment-limit",
	FragmentMark:           "fragment-congestion-mark",
}

// String is the counter's name.
func (r Reason) String() string {
	if r < ReasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

package packet

// Reason says why a frame is not well formed; [OK] is none. Each one is a
// counter, so numbers and names are only ever added at the end.
type Reason uint8

// What can be wrong with a frame.
const (
	OK                Reason = iota
	Short                    // the frame ends before a header does
	BadVersion               // the version does not match the Ethernet type
	BadHeaderLength          // an IPv4 or TCP header length below its minimum or beyond the packet
	BadLength                // an IP or UDP length that cannot be; IPv6 jumbograms
	BadHeaderChecksum        // the IPv4 header checksum
	BadOption                // IPv4 options that do not add up
	BadExtension             // IPv6 extension headers that do not add up, or too many
	BadFragment              // a fragment that fits no datagram
	BadAddress               // an IPv4-mapped address in an IPv6 packet
	ReasonCount              // how many there are, for tables of counters
)

var reasonNames = [ReasonCount]string{
	OK:                "ok",
	Short:             "short",
	BadVersion:        "bad-version",
	BadHeaderLength:   "bad-header-length",
	BadLength:         "bad-length",
	BadHeaderChecksum: "bad-header-checksum",
	BadOption:         "bad-option",
	BadExtension:      "bad-extension",
	BadFragment:       "bad-fragment",
	BadAddress:        "bad-address",
}

// String is the counter's name.
func (r Reason) String() string {
	if r < ReasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

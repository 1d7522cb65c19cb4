package config

import "time"

// NamedTimeout is one of pf's time-outs with its name in the file.
type NamedTimeout struct {
	Name  string
	Value time.Duration
}

// All lists the time-outs in pf's order (pf.conf(5), "set timeout"), those
// that the file does not give as zero.
func (t *TimeoutSet) All() []NamedTimeout {
	return []NamedTimeout{
		{"tcp_first", t.TCPFirst.Duration}, {"tcp_opening", t.TCPOpening.Duration},
		{"tcp_established", t.TCPEstablished.Duration}, {"tcp_closing", t.TCPClosing.Duration},
		{"tcp_finwait", t.TCPFinWait.Duration}, {"tcp_closed", t.TCPClosed.Duration},
		{"udp_first", t.UDPFirst.Duration}, {"udp_single", t.UDPSingle.Duration},
		{"udp_multiple", t.UDPMultiple.Duration}, {"icmp_first", t.ICMPFirst.Duration},
		{"icmp_error", t.ICMPError.Duration}, {"other_first", t.OtherFirst.Duration},
		{"other_single", t.OtherSingle.Duration}, {"other_multiple", t.OtherMultiple.Duration},
	}
}

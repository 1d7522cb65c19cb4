package norm

import "tandem/netstack/packet"

// Check says whether v, as it came from a wire, is wrong whatever the rules
// are. What is not IP is OK.
func Check(v *packet.View) Reason {
	switch {
	case v.Family == 0:
		return OK
	case v.SourceRoute:
		return SourceRoute
	case v.Src.IsLoopback() || v.Dst.IsLoopback():
		return LoopbackAddress
	case v.Src.IsMulticast():
		return MulticastSource
	case v.Src.IsBroadcast():
		return BroadcastSource
	case v.Dst.IsUnspecified():
		return UnspecifiedDestination
	case v.Src == v.Dst:
		return Land
	case v.L4 == 0:
		return OK
	}
	if v.Proto != packet.ProtoTCP && v.Proto != packet.ProtoUDP {
		return OK
	}
	if v.SrcPort == 0 || v.DstPort == 0 {
		return PortZero
	}
	if v.Proto == packet.ProtoTCP && badFlags(v.TCPFlags) {
		return BadFlags
	}
	return OK
}

// badFlags says whether no TCP ever sends f: a beginning that ends as well,
// nothing at all, or what only means something in an established connection
// without ACK (RFC 9293, section 3.10.7; scrubbed by pf alike).
func badFlags(f uint8) bool {
	switch {
	case f&packet.SYN != 0 && f&(packet.FIN|packet.RST) != 0:
		return true
	case f&(packet.SYN|packet.ACK|packet.RST) == 0:
		return true
	}
	return f&packet.ACK == 0 && f&(packet.FIN|packet.PSH|packet.URG) != 0
}

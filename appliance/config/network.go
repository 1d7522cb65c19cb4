package config

import "net/netip"

// Networks that rules name by what they are for.
var (
	// private: RFC 1918, loopback (RFC 1122), unique local (RFC 4193).
	private = prefixes("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")

	// bogons: what nobody on the Internet has been given (the registries of
	// RFC 6890), private networks left aside, which are a list of their own.
	// IPv6 link-local is no bogon, neighbours speak from there.
	bogons = prefixes(
		"0.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"::/8", "100::/8", "200::/7", "400::/6", "800::/5", "1000::/4", "2001:2::/48", "2001:10::/28",
		"2001:db8::/32", "3fff::/20", "4000::/2", "8000::/2", "c000::/3", "e000::/4", "f000::/5", "f800::/6",
		"fe00::/9", "fec0::/10", "ff00::/8",
	)

	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	linkLocal = netip.MustParsePrefix("169.254.0.0/16")
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// PrivateNetworks are those that block_private keeps out.
func PrivateNetworks() []netip.Prefix { return append([]netip.Prefix(nil), private...) }

// BogonNetworks are those that block_bogons keeps out.
func BogonNetworks() []netip.Prefix { return append([]netip.Prefix(nil), bogons...) }

func anyContains(list []netip.Prefix, a netip.Addr) (netip.Prefix, bool) {
	for _, p := range list {
		if p.Contains(a) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// isHostAddr says whether a host of the network can have the address: it is
// neither the network itself nor its broadcast address (RFC 1122, 3.2.1.3). A
// network of 31 bits has neither (RFC 3021).
func isHostAddr(p netip.Prefix) bool {
	if !p.Addr().Is4() || p.Bits() >= 31 {
		return true
	}
	return p.Addr() != p.Masked().Addr() && p.Addr() != broadcastOf(p)
}

// broadcastOf is the highest address of an IPv4 network.
func broadcastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// versionOf is 4 or 6.
func versionOf(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}

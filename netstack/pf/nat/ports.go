package nat

import (
	"tandem/netstack/pf/rule"
)

const (
	blockPorts = 64 // a block of ports
	shares     = 4  // nodes share the blocks out by their number modulo this
	stripe     = blockPorts * shares
)

// How many different ports are tried, at random, before they count as full: of
// the node's own blocks few, since the others are there as well and a
// destination that has used up the own ones would cost every further
// connection all those questions; of the others many, since nothing is behind
// them. With 99 of 100 of those in use that errs once in 170 times, and a full
// range costs some hundred questions and no more.
const (
	ownTriesMax   = 64
	otherTriesMax = 512
)

// portRange is the ports, or ICMP identifiers, to choose from.
type portRange struct{ low, high uint16 }

// choose looks for a port that is free for q, in random order, first in the
// blocks of this node and then in all others. q's tuple is changed.
func (r portRange) choose(q *rule.Query, icmp bool, env *Ports) (uint16, Outcome) {
	share := int(env.HostID % shares)
	own := ownTriesMax
	if r.own(share) <= otherTriesMax {
		own = otherTriesMax // a small range is looked through
	}
	if p, ok := try(r.own(share), own, r.ownAt, share, q, icmp, env); ok {
		return p, Translated
	}
	if p, ok := try(r.size()-r.own(share), otherTriesMax, r.otherAt, share, q, icmp, env); ok {
		return p, Translated
	}
	return 0, PortsFull
}

// try asks for up to most of n ports, which at gives by number. A start
// and a stride that shares no factor with n visit each at most once.
func try(n, most int, at func(share, i int) uint16, share int, q *rule.Query, icmp bool, env *Ports) (uint16, bool) {
	if n == 0 {
		return 0, false
	}
	random := env.Rand()
	i, step := int(random>>32)%n, stride(n, int(random&0xffffffff))
	for range min(n, most) {
		p := at(share, i)
		q.SrcPort = p
		if icmp {
			q.DstPort = p
		}
		if !env.InUse(&q.Tuple) {
			return p, true
		}
		i = (i + step) % n
	}
	return 0, false
}

// stride is a number from 1 to n without a common factor with n.
func stride(n, random int) int {
	s := 1 + random%n
	for gcd(s, n) != 1 {
		s = 1 + s%n
	}
	return s
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (r portRange) size() int { return int(r.high) - int(r.low) + 1 }

// ownBelow is how many ports of a share's blocks are below p.
func ownBelow(share, p int) int {
	return p/stripe*blockPorts + min(max(p%stripe-share*blockPorts, 0), blockPorts)
}

// own is how many ports of the range are in the share's blocks.
func (r portRange) own(share int) int {
	return ownBelow(share, int(r.high)+1) - ownBelow(share, int(r.low))
}

// ownAt is port number i of those of the range in the share's blocks.
func (r portRange) ownAt(share, i int) uint16 {
	i += ownBelow(share, int(r.low))
	return uint16(i/blockPorts*stripe + share*blockPorts + i%blockPorts)
}

// otherAt is port number i of those of the range in all other blocks.
func (r portRange) otherAt(share, i int) uint16 {
	i += int(r.low) - ownBelow(share, int(r.low))
	const others = stripe - blockPorts
	p := i % others
	if p >= share*blockPorts {
		p += blockPorts
	}
	return uint16(i/others*stripe + p)
}

package carp

import (
	"errors"
	"net/netip"
	"time"
)

// diagnoseEvery limits the search for why adverts do not verify.
const diagnoseEvery = time.Second

// nearbyMax bounds the addresses that such a search tries.
const nearbyMax = 64

// Packet is what arrived under IP protocol 112 on an interface. Dst is not
// looked at, save for VRRP's checksum.
type Packet struct {
	Iface    uint16
	Family   Family
	Src, Dst netip.Addr
	TTL      uint8
	Payload  []byte // behind the IP header; not kept
}

// Counters of a node since its start. The names in documents follow
// `netstat -s -p carp`.
type Counters struct {
	Received    uint64 `json:"received"`  // IPv4
	Received6   uint64 `json:"received6"` // IPv6
	BadTTL      uint64 `json:"bad_ttl"`
	BadChecksum uint64 `json:"bad_checksum"`
	BadVersion  uint64 `json:"bad_version"`
	ShortPacket uint64 `json:"short_packet"`
	BadAuth     uint64 `json:"bad_auth"`
	BadVHID     uint64 `json:"bad_vhid"`
	Sent        uint64 `json:"sent"`
	Sent6       uint64 `json:"sent6"`
	SendFailed  uint64 `json:"send_failed"`
	// ShortHeader and BadAddressList stay zero. FreeBSD has them: the first is
	// for headers that it could not make contiguous, the second never rises.
	ShortHeader    uint64 `json:"short_header"`
	BadAddressList uint64 `json:"bad_address_list"`
	// What FreeBSD does not count.
	BadSource    uint64 `json:"bad_source"` // not from the unicast peer
	Replayed     uint64 `json:"replayed"`
	OwnEcho      uint64 `json:"own_echo"`
	Foreign      uint64 `json:"foreign"` // VRRP; counted above as well
	BecameMaster uint64 `json:"became_master"`
}

// Receive takes a packet of IP protocol 112. The checks are FreeBSD 15's, in
// its order; the first that fails counts the packet and drops it.
func (g *Group) Receive(now time.Time, p Packet, acts []Action) []Action {
	if p.Family == IPv6 {
		g.counters.Received6++
	} else {
		g.counters.Received++
	}
	p.Src = p.Src.Unmap().WithZone("")
	if f, ok := ParseForeign(p.Payload, p.Src, p.Dst); ok {
		acts = g.receiveForeign(now, &p, f, acts)
	}
	adv, err := ParseAdvert(p.Payload)
	switch {
	case errors.Is(err, ErrShort):
		g.counters.ShortPacket++
	case errors.Is(err, ErrVersion) && g.isOtherVRRP(&p):
		g.counters.BadVHID++
	case errors.Is(err, ErrVersion):
		g.counters.BadVersion++
	case err != nil:
		g.counters.BadChecksum++
	default:
		acts = g.receiveAdvert(now, &p, adv, acts)
	}
	return g.finish(now, acts)
}

// isOtherVRRP: FreeBSD 15 knows version 3, and finds fault with the version
// only for an id that is a CARP vhid.
func (g *Group) isOtherVRRP(p *Packet) bool {
	return p.Payload[0]>>4 == 3 && g.find(p.Iface, p.Payload[offVHID]) == nil
}

func (g *Group) receiveForeign(now time.Time, p *Packet, f Foreign, acts []Action) []Action {
	g.counters.Foreign++
	g.note(now, Heard{
		Iface: p.Iface, VHID: f.ID, Protocol: f.Protocol, Source: p.Src,
		Priority: f.Priority, Interval: f.Interval,
	})
	if v := g.find(p.Iface, f.ID); v != nil {
		acts = g.suspect(now, v, evidence{kind: AlarmForeignSpeaker, source: p.Src, need: 1, hold: holdFor(f.Interval)}, acts)
	}
	return acts
}

// receiveAdvert goes on with a packet that has the form of an advert.
func (g *Group) receiveAdvert(now time.Time, p *Packet, adv Advert, acts []Action) []Action {
	v := g.find(p.Iface, adv.VHID())
	own := v != nil && v.isOwn(p.Src)
	if !own {
		g.note(now, Heard{
			Iface: p.Iface, VHID: adv.VHID(), Protocol: ProtocolCARP, Source: p.Src,
			Base: adv.Base(), Skew: adv.Skew(), Interval: adv.Interval(),
		})
	}
	if v == nil || !v.has(p.Family) {
		g.counters.BadVHID++
		return g.explainVHID(now, p, adv, acts)
	}
	peer := v.unicast(p.Family)
	switch {
	case !peer.IsValid() && p.TTL != TTL:
		g.counters.BadTTL++
		return acts
	case peer.IsValid() && p.Src != peer.WithZone("") && !own:
		g.counters.BadSource++
		return acts
	case !v.verify(now, adv):
		g.counters.BadAuth++
		return g.explainDigest(now, v, p, adv, acts)
	case own || v.isEcho(p.Src, p.Family, adv):
		// FreeBSD would compare it with itself, find a tie and step down.
		g.counters.OwnEcho++
		return g.suspect(now, v, evidence{kind: AlarmOwnEcho, source: p.Src, need: 3, hold: alarmHold}, acts)
	}
	switch g.judgeReplay(now, v, p.Src, adv) {
	case replayed:
		g.counters.Replayed++
		acts = g.suspect(now, v, evidence{kind: AlarmReplayed, source: p.Src, need: 1, hold: alarmHold}, acts)
		if g.cfg.Replay == ReplayDrop {
			return acts
		}
	case duplicate:
		g.counters.Replayed++
		if g.cfg.Replay == ReplayDrop {
			return acts
		}
	}
	return g.receiveVerified(now, v, p, adv, acts)
}

func (g *Group) receiveVerified(now time.Time, v *vhost, p *Packet, adv Advert, acts []Action) []Action {
	v.heardSuccessor(now)
	g.noteVerified(p, adv)
	acts = g.compareSettings(now, v, p, adv, acts)
	was, n := v.state, len(acts)
	acts = g.did(now, v, n, v.machine.Receive(now, adv, p.Src, p.Family, acts))
	switch {
	case was == Master && v.state == Backup && adv.Base() == v.cfg.Base && adv.Skew() == v.machine.EffectiveSkew() &&
		p.Src.Less(v.source(p.Family, group6)):
		v.machine.yieldTie()
	case was == Master && v.state == Master:
		// It should hear us and step down. If it goes on, it does not hear.
		acts = g.suspect(now, v, evidence{
			kind: AlarmSecondMaster, source: p.Src, need: 3,
			after: v.machine.MasterDown(), hold: 3 * max(adv.Interval(), time.Second),
		}, acts)
	case was == Backup && v.state == Master && v.machine.isDemoted(adv):
		g.hasten(now, v)
	}
	if v.state == Backup {
		v.peer = p.Src
		acts = g.clear(v, AlarmSecondMaster, acts)
	}
	return acts
}

// hasten: a master that demotes itself has a reason, most often a dead
// interface. On that segment we hear only silence, so one missed advert is
// enough there for a while.
func (g *Group) hasten(now time.Time, taken *vhost) {
	for _, v := range g.vhosts {
		if v != taken {
			v.machine.Hasten(now, now.Add(v.machine.MasterDown()))
		}
	}
}

// judgeReplay: where all speakers are appliances, nobody but us may use our
// own counters either.
func (g *Group) judgeReplay(now time.Time, v *vhost, from netip.Addr, adv Advert) freshness {
	across := g.cfg.Replay == ReplayDrop
	if across && v.sentCounter(adv.Counter()) {
		return replayed
	}
	return v.replay.judge(now, from, adv.Counter(), across)
}

func (v *vhost) sentCounter(c uint64) bool {
	return v.counter != v.firstSent && span{v.firstSent, v.counter - 1}.contains(c)
}

func (v *vhost) verify(now time.Time, adv Advert) bool {
	return v.key.Verify(adv) || v.oldKey != nil && now.Before(v.oldKeyUntil) && v.oldKey.Verify(adv)
}

func (v *vhost) has(f Family) bool { return v.machine.watch[familyIndex(f)].on }

// isOwn says whether src is an address of this node's own, which nobody else
// may use.
func (v *vhost) isOwn(src netip.Addr) bool {
	for _, addr := range v.iface.cfg.Addresses {
		if addr.WithZone("") == src {
			return true
		}
	}
	return false
}

// isEcho is for a node without an address of its own, which sends from the
// VIP as its peer does: only the counter tells whose advert came back.
func (v *vhost) isEcho(src netip.Addr, f Family, adv Advert) bool {
	return src == v.source(f, group6) && v.sentCounter(adv.Counter())
}

// explainDigest looks for the cause of a wrong digest, once a second at most
// for each vhid.
func (g *Group) explainDigest(now time.Time, v *vhost, p *Packet, adv Advert, acts []Action) []Action {
	e := evidence{kind: AlarmWrongDigest, source: p.Src, need: 3, hold: holdFor(adv.Interval())}
	if !now.Before(v.diagnoseAt) {
		v.diagnoseAt = now.Add(diagnoseEvery)
		var nearby []netip.Addr
		nearby = append(nearby, v.iface.cfg.Addresses...)
		for _, other := range g.vhosts {
			if other != v && other.iface == v.iface {
				nearby = append(nearby, other.cfg.Addresses...)
			}
		}
		e.diagnosis, e.addr = v.key.Diagnose(adv, nearby[:min(len(nearby), nearbyMax)])
		e.diagnosed = true
	}
	return g.suspect(now, v, e, acts)
}

// explainVHID looks whether an unknown vhid is one of ours under another
// number.
func (g *Group) explainVHID(now time.Time, p *Packet, adv Advert, acts []Action) []Action {
	if now.Before(g.diagnoseAt) {
		return acts
	}
	g.diagnoseAt = now.Add(diagnoseEvery)
	for _, v := range g.vhosts {
		if v.cfg.Iface == p.Iface && v.key.IsRenumbered(adv) {
			e := evidence{
				kind: AlarmWrongDigest, source: p.Src, need: 3, hold: holdFor(adv.Interval()),
				diagnosis: DiagnosisVHID, vhid: adv.VHID(), diagnosed: true,
			}
			return g.suspect(now, v, e, acts)
		}
	}
	return acts
}

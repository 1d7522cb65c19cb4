package carp

import (
	"fmt"
	"slices"
	"time"
)

// DemotionDefault is FreeBSD's factor for a dead link and for send errors:
// enough to be worse than any configured skew.
const DemotionDefault = 240

// Names of the demotions that a [Group] makes itself; those of links and send
// errors are followed by the interface, or vhid@interface.
const (
	DemotionMaintenance = "maintenance"
	demotionLink        = "link:"
	demotionSendError   = "send-error:"
)

// Send errors in a row that demote, and successes in a row that end it
// (FreeBSD: CARP_SENDAD_MAX_ERRORS, CARP_SENDAD_MIN_SUCCESS).
const (
	sendErrorsMax   = 3
	sendsGoodEnough = 3
)

// demotionsMax bounds the list; names come from callers, not from packets.
const demotionsMax = 1024

// Demotion is one cause for this node to be a worse master.
type Demotion struct {
	Name       string // unique: "link:wan"
	Amount     int    // what it adds to every skew; may be negative
	Since      time.Time
	ClearsWhen string // in words, for the operator: "wan has link again"
}

// SetDemotion records that the node is demoted by amount for the named cause,
// replacing what was recorded under that name; amount 0 clears it. The effect
// is that of the sum of all records.
func (g *Group) SetDemotion(now time.Time, name string, amount int, clearsWhen string, acts []Action) []Action {
	return g.finish(now, g.demote(now, name, amount, clearsWhen, acts))
}

// SetMaintenance switches maintenance mode: the node demotes itself, so that
// its peer preempts. It lasts until it is switched off; keeping it over a
// restart is the caller's.
func (g *Group) SetMaintenance(now time.Time, on bool, acts []Action) []Action {
	amount := 0
	if on {
		amount = DemotionDefault
	}
	return g.SetDemotion(now, DemotionMaintenance, amount, "maintenance mode is switched off", acts)
}

// ResetDemotion forgets every record but maintenance and dead links, which
// are facts; send errors count afresh.
func (g *Group) ResetDemotion(now time.Time, acts []Action) []Action {
	for _, v := range g.vhosts {
		v.sendErrors, v.sendsGood = 0, 0
	}
	for _, d := range slices.Clone(g.demotions) {
		if d.Name != DemotionMaintenance && !g.isLinkDemotion(d.Name) {
			acts = g.demote(now, d.Name, 0, "", acts)
		}
	}
	return g.finish(now, acts)
}

func (g *Group) isLinkDemotion(name string) bool {
	return slices.ContainsFunc(g.ifaces, func(i *iface) bool { return name == demotionLink+i.cfg.Name })
}

// Demotion is the sum of all records.
func (g *Group) Demotion() int {
	sum := 0
	for _, d := range g.demotions {
		sum += d.Amount
	}
	return sum
}

func (g *Group) demote(now time.Time, name string, amount int, clearsWhen string, acts []Action) []Action {
	before := g.Demotion()
	record := Demotion{Name: name, Amount: amount, Since: now, ClearsWhen: clearsWhen}
	at := slices.IndexFunc(g.demotions, func(d Demotion) bool { return d.Name == name })
	switch {
	case at < 0 && (amount == 0 || len(g.demotions) == demotionsMax):
		return acts
	case at < 0:
		g.demotions = append(g.demotions, record)
	case g.demotions[at].Amount == amount:
		return acts
	case amount == 0:
		record.Since, record.ClearsWhen = g.demotions[at].Since, g.demotions[at].ClearsWhen
		g.demotions = slices.Delete(g.demotions, at, at+1)
	default:
		record.Since = g.demotions[at].Since
		g.demotions[at] = record
	}
	total := g.Demotion()
	acts = append(acts, Action{Kind: DemotionChanged, Demotion: record, Delta: total - before, Total: total})
	for _, v := range g.vhosts {
		n := len(acts)
		acts = g.did(now, v, n, v.machine.SetDemotion(now, total, acts))
	}
	return acts
}

// demoteForLink keeps one record for each dead interface, of the link factor
// for every vhid on it: FreeBSD adds the factor once per vhid.
func (g *Group) demoteForLink(now time.Time, i *iface, acts []Action) []Action {
	amount := 0
	if i.told && !i.up {
		for _, v := range g.vhosts {
			if v.cfg.Iface == i.cfg.Index {
				amount += g.cfg.DemotionLinkDown
			}
		}
	}
	return g.demote(now, demotionLink+i.cfg.Name, amount, i.cfg.Name+" has link again", acts)
}

// Sent reports what became of an advert that a SendAdvert action asked for.
// Three errors in a row demote the node, three successes after that end it.
func (g *Group) Sent(now time.Time, ifaceIndex uint16, vhid uint8, family Family, ok bool, acts []Action) []Action {
	v := g.find(ifaceIndex, vhid)
	switch {
	case !ok:
		g.counters.SendFailed++
	case family == IPv6:
		g.counters.Sent6++
	default:
		g.counters.Sent++
	}
	if v == nil {
		return acts
	}
	name := demotionSendError + v.name()
	switch {
	case !ok:
		v.sendsGood = 0
		if v.sendErrors++; v.sendErrors == sendErrorsMax {
			clears := fmt.Sprintf("%d adverts in a row were sent", sendsGoodEnough)
			acts = g.demote(now, name, g.cfg.DemotionSendError, clears, acts)
		}
	case v.sendErrors < sendErrorsMax:
		v.sendErrors = 0
	default:
		if v.sendsGood++; v.sendsGood == sendsGoodEnough {
			acts = g.forgiveSendErrors(now, v, acts)
		}
	}
	return g.finish(now, acts)
}

// SendsAgain tells that an interface was seen to send other frames. A backup
// sends no adverts, so it could never show by those that it can.
func (g *Group) SendsAgain(now time.Time, ifaceIndex uint16, acts []Action) []Action {
	for _, v := range g.vhosts {
		if v.cfg.Iface == ifaceIndex {
			acts = g.forgiveSendErrors(now, v, acts)
		}
	}
	return g.finish(now, acts)
}

// forgiveSendErrors also serves where a fresh start says more than old errors:
// a backup sends nothing, so its successes would never come.
func (g *Group) forgiveSendErrors(now time.Time, v *vhost, acts []Action) []Action {
	v.sendErrors, v.sendsGood = 0, 0
	return g.demote(now, demotionSendError+v.name(), 0, "", acts)
}

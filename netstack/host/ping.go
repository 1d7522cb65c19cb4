package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tandem/netstack/packet"
)

// Why a ping has no reply.
var (
	ErrTimeout = errors.New("no reply in time")
	ErrBusy    = errors.New("an echo with this identifier and number is under way")
	ErrTooBig  = errors.New("longer than the interface's MTU")
)

const (
	icmpHeaderLen  = 8
	pingTTLDefault = 64
	pingTimeout    = time.Second
)

// PingConfig is one echo request.
type PingConfig struct {
	Remote  netip.Addr
	Source  netip.Addr    // zero: by route
	Iface   uint16        // 0: by route
	TTL     uint8         // or hop limit; 0: 64
	ID, Seq uint16        // of the request; together they must be unused
	Payload int           // bytes behind the ICMP header
	Timeout time.Duration // 0: one second
}

// PingReply is what came back: the echo reply, or an ICMP error about the
// request. Type and Code are those of ICMP or ICMPv6.
type PingReply struct {
	From netip.Addr
	Type uint8
	Code uint8
	RTT  time.Duration
	TTL  uint8 // of the reply when it arrived
}

// IsEcho says whether the remote host itself answered.
func (r PingReply) IsEcho() bool {
	return r.From.Is4() && r.Type == packet.ICMP4EchoReply || r.From.Is6() && r.Type == packet.ICMP6EchoReply
}

// pingKey is what a reply names.
type pingKey struct {
	remote  netip.Addr
	id, seq uint16
}

// waiting is an echo request under way.
type waiting struct {
	sent  time.Time
	reply chan PingReply // room for one
}

// pings are the echo requests under way. The router's datagrams pass by here,
// so that without any a look costs one load.
type pings struct {
	live atomic.Int32
	mu   sync.Mutex
	byID map[pingKey]*waiting
}

// Ping sends one echo request, past the guest, and waits for what comes back.
// An ICMP error is a reply, not an error.
func (h *Host) Ping(ctx context.Context, cfg PingConfig) (PingReply, error) {
	reply, err := h.ping(ctx, cfg)
	if err != nil {
		return reply, fmt.Errorf("host: ping %v: %w", cfg.Remote, err)
	}
	return reply, nil
}

func (h *Host) ping(ctx context.Context, cfg PingConfig) (PingReply, error) {
	remote := cfg.Remote.Unmap().WithZone("")
	src, iface, err := h.choose(cfg.Source, cfg.Iface, cfg.Remote)
	if err != nil {
		return PingReply{}, err
	}
	if _, held := h.book.Load().holder(iface, remote); held {
		return ownReply(remote), nil
	}
	frame := echoRequest(src, remote, &cfg)
	if len(frame)-ethernetHeaderLen > int(h.nics[iface].MTU()) {
		return PingReply{}, fmt.Errorf("%d bytes: %w", len(frame)-ethernetHeaderLen, ErrTooBig)
	}
	key := pingKey{remote, cfg.ID, cfg.Seq}
	w, err := h.pings.add(key, h.clock.Now())
	if err != nil {
		return PingReply{}, err
	}
	defer h.pings.remove(key)

	expired := make(chan struct{})
	timeout := cfg.Timeout
	if timeout <= 0 {
		timeout = pingTimeout
	}
	timer := h.clock.AfterFunc(timeout, func() { close(expired) })
	defer timer.Stop()
	h.stats.queued.Add(1)
	if !h.out.put(item{frame: frame, iface: iface}) {
		h.stats.dropped.Add(1)
	}
	select {
	case r, ok := <-w.reply:
		if !ok {
			return PingReply{}, ErrClosed
		}
		return r, nil
	case <-expired:
		return PingReply{}, ErrTimeout
	case <-ctx.Done():
		return PingReply{}, ctx.Err()
	}
}

// ownReply is the answer of an address of ours.
func ownReply(remote netip.Addr) PingReply {
	r := PingReply{From: remote, Type: packet.ICMP4EchoReply, TTL: pingTTLDefault}
	if remote.Is6() {
		r.Type = packet.ICMP6EchoReply
	}
	return r
}

// echoRequest is a frame without addresses. It must not be fragmented, so
// that a path's MTU shows.
func echoRequest(src, dst netip.Addr, cfg *PingConfig) []byte {
	body := make([]byte, icmpHeaderLen+cfg.Payload)
	for i := range cfg.Payload {
		body[icmpHeaderLen+i] = byte(i)
	}
	t := packet.Tuple{Src: packet.AddrFrom(src), Dst: packet.AddrFrom(dst), Proto: packet.ProtoICMP, Family: 4}
	var sum uint32
	body[0] = packet.ICMP4Echo
	if dst.Is6() {
		t.Proto, t.Family = packet.ProtoICMPv6, 6
		body[0] = packet.ICMP6Echo
		sum = packet.PseudoSum(&t, len(body))
	}
	binary.BigEndian.PutUint16(body[4:], cfg.ID)
	binary.BigEndian.PutUint16(body[6:], cfg.Seq)
	binary.BigEndian.PutUint16(body[2:], packet.Checksum(body, sum))
	ttl := cfg.TTL
	if ttl == 0 {
		ttl = pingTTLDefault
	}
	return packet.AppendIP(nil, packet.MAC{}, packet.MAC{}, src, dst, t.Proto, ttl, 0, true, cfg.Seq, body)
}

func (p *pings) add(key pingKey, now time.Time) (*waiting, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID[key] != nil {
		return nil, ErrBusy
	}
	if p.byID == nil {
		p.byID = make(map[pingKey]*waiting)
	}
	w := &waiting{sent: now, reply: make(chan PingReply, 1)}
	p.byID[key] = w
	p.live.Add(1)
	return w, nil
}

func (p *pings) remove(key pingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID[key] != nil {
		delete(p.byID, key)
		p.live.Add(-1)
	}
}

// fail ends all of them, when the host closes.
func (p *pings) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, w := range p.byID {
		close(w.reply)
		delete(p.byID, key)
		p.live.Add(-1)
	}
}

// take says whether the datagram was a reply to one of ours, and hands it on.
func (p *pings) take(datagram []byte, clock Clock) bool {
	if p.live.Load() == 0 {
		return false
	}
	var v packet.View
	if packet.DecodeIP(datagram, &v) != packet.OK || v.L4 == 0 {
		return false
	}
	from := v.Src.Netip()
	key, ok := replyKey(&v, from)
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byID[key]
	if w == nil {
		return false
	}
	select {
	case w.reply <- PingReply{From: from, Type: v.ICMPType, Code: v.ICMPCode, RTT: clock.Now().Sub(w.sent), TTL: v.TTL}:
	default: // The first reply counts.
	}
	return true
}

// replyKey finds which request a datagram is about.
func replyKey(v *packet.View, from netip.Addr) (pingKey, bool) {
	switch {
	case v.Family == 4 && v.Proto == packet.ProtoICMP && v.ICMPType == packet.ICMP4EchoReply,
		v.Family == 6 && v.Proto == packet.ProtoICMPv6 && v.ICMPType == packet.ICMP6EchoReply:
		return echoKey(v.B[v.L4:v.End], from)
	case packet.IsICMPError(v):
		var in packet.View
		if !packet.DecodeInner(v, &in) || in.L4 == 0 {
			return pingKey{}, false
		}
		request := in.Family == 4 && in.Proto == packet.ProtoICMP && in.B[in.L4] == packet.ICMP4Echo ||
			in.Family == 6 && in.Proto == packet.ProtoICMPv6 && in.B[in.L4] == packet.ICMP6Echo
		if !request {
			return pingKey{}, false
		}
		return echoKey(in.B[in.L4:], in.Dst.Netip())
	}
	return pingKey{}, false
}

func echoKey(b []byte, remote netip.Addr) (pingKey, bool) {
	if len(b) < icmpHeaderLen {
		return pingKey{}, false
	}
	return pingKey{remote, binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])}, true
}

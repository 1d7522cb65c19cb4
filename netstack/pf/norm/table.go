package norm

// The entries of a Reassembler hang in two chains, oldest first: all of them,
// and those of their source. Nothing ever looks through a map, whose order
// differs from run to run.

// Which chain.
const (
	byAge = iota
	bySource
)

// chain is the two ends of a list of datagrams; links their neighbours in it.
type (
	chain struct{ oldest, newest int32 }
	links struct{ older, newer int32 }
)

// source is what one address has not finished.
type source struct {
	chain
	count int
}

func (r *Reassembler) push(c *chain, which int, i int32) {
	r.datagrams[i].links[which] = links{older: c.newest}
	if c.newest != 0 {
		r.datagrams[c.newest].links[which].newer = i
	} else {
		c.oldest = i
	}
	c.newest = i
}

func (r *Reassembler) unlink(c *chain, which int, i int32) {
	l := r.datagrams[i].links[which]
	if l.older != 0 {
		r.datagrams[l.older].links[which].newer = l.newer
	} else {
		c.oldest = l.newer
	}
	if l.newer != 0 {
		r.datagrams[l.newer].links[which].older = l.older
	} else {
		c.newest = l.older
	}
}

// open makes an empty entry for k. The oldest one goes if there are too many,
// of the source or of all.
func (r *Reassembler) open(now int64, k key) int32 {
	if s := r.sources[k.src]; s.count >= r.cfg.MaxPerSource {
		r.evict(s.oldest)
	}
	if r.stats.Datagrams >= r.cfg.MaxFragments {
		r.evict(r.age.oldest)
	}
	i := r.freeData
	if i == 0 {
		i = int32(len(r.datagrams))
		r.datagrams = append(r.datagrams, datagram{})
	} else {
		r.freeData = r.datagrams[i].links[byAge].older
	}
	d := &r.datagrams[i]
	*d = datagram{key: k, deadline: now + int64(r.cfg.Timeout), pieces: d.pieces[:0], total: -1, about: Datagram{ID: k.id}}
	r.push(&r.age, byAge, i)
	s := r.sources[k.src]
	r.push(&s.chain, bySource, i)
	s.count++
	r.sources[k.src] = s
	r.index[k] = i
	r.stats.Datagrams++
	return i
}

// forget ends entry i.
func (r *Reassembler) forget(i int32) {
	r.release(i)
	d := &r.datagrams[i]
	delete(r.index, d.key)
	r.unlink(&r.age, byAge, i)
	s := r.sources[d.key.src]
	r.unlink(&s.chain, bySource, i)
	if s.count--; s.count == 0 {
		delete(r.sources, d.key.src)
	} else {
		r.sources[d.key.src] = s
	}
	d.links[byAge].older, r.freeData = r.freeData, i
	r.stats.Datagrams--
}

func (r *Reassembler) evict(i int32) {
	r.stats.Evicted++
	r.forget(i)
}

// refuse drops what has come of entry i; the entry stays until its deadline,
// so that what is still to come cannot begin the datagram anew.
func (r *Reassembler) refuse(i int32, why Reason) {
	r.release(i)
	r.datagrams[i].refused = why
}

// release frees the pieces of entry i.
func (r *Reassembler) release(i int32) {
	d := &r.datagrams[i]
	for _, n := range d.pieces {
		p := &r.pieces[n]
		r.stats.Fragments--
		r.stats.Bytes -= cap(p.frame)
		if cap(p.frame) > pieceBytes {
			p.frame = nil // Jumbo frames are rare; their memory is not kept.
		}
		p.free, r.freePiece = r.freePiece, n
	}
	d.pieces = d.pieces[:0]
	if cap(d.pieces) > piecesKept {
		d.pieces = nil
	}
}

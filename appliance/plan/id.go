package plan

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// Identifiers stay the same over edits elsewhere in the file, because counters
// and states are carried over a reload by them: the one that the operator gave,
// or one made of what the entry does. Those of automatic rules hold a colon,
// which no name may.

// claimIDs takes the identifiers that the file gives.
func (b *builder) claimIDs() {
	for _, r := range b.doc.Rules {
		b.ids[r.ID] = true
	}
	for _, r := range b.doc.NAT.Outbound.Rules {
		b.ids[r.ID] = true
	}
	for _, f := range b.doc.NAT.PortForwards {
		b.ids[f.ID] = true
	}
	for _, o := range b.doc.NAT.OneToOne {
		b.ids[o.ID] = true
	}
}

// id is given, or made of the words that say what the entry does. Entries that
// do the same are numbered.
func (b *builder) id(given, kind string, words ...string) string {
	if given != "" {
		return given
	}
	h := fnv.New32a()
	h.Write([]byte(strings.Join(words, "\x00")))
	base := fmt.Sprintf("%s-%08x", kind, h.Sum32())
	id := base
	for b.ids[id] {
		b.same[base]++
		id = fmt.Sprintf("%s-%d", base, b.same[base]+1)
	}
	b.ids[id] = true
	return id
}

package nic

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
)

// dropTable is a table of nftables with one chain, at the ingress of one
// interface, that drops everything. Packet sockets have their copy before.
type dropTable struct {
	conn  *nftables.Conn // kept open: it stays in the namespace it began in
	table *nftables.Table
}

// newDropTable makes the table, in the place of one that a killed process may
// have left.
func newDropTable(device string) (*dropTable, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("drop chain: %w", err)
	}
	t := &dropTable{conn: conn, table: &nftables.Table{Family: nftables.TableFamilyNetdev, Name: tableName(device)}}
	conn.DelTable(t.table)
	_ = conn.Flush() // That there is none is the rule.
	drop := nftables.ChainPolicyDrop
	conn.AddTable(t.table)
	conn.AddChain(&nftables.Chain{
		Name:     "ingress",
		Table:    t.table,
		Type:     nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityFilter,
		Policy:   &drop,
		Device:   device,
	})
	if err := conn.Flush(); err != nil {
		_ = conn.CloseLasting()
		return nil, fmt.Errorf("drop chain: %w", err)
	}
	return t, nil
}

// remove takes the table away. It outlives an interface that is gone.
func (t *dropTable) remove() error {
	t.conn.DelTable(t.table)
	err := t.conn.Flush()
	_ = t.conn.CloseLasting()
	if err != nil {
		return fmt.Errorf("remove drop chain: %w", err)
	}
	return nil
}

// tableName is one that nft(8) takes without quotes, one for each device.
func tableName(device string) string {
	var b strings.Builder
	b.WriteString("tandem_")
	for _, c := range []byte(device) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

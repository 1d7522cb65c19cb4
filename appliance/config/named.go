package config

import "reflect"

// Entries that the file writes in more than one shape read themselves.

// decode takes a list of interfaces, or a table with members.
func (g *Group) decode(d *decoder, key string, raw any) {
	table := struct {
		Object
		Members []string `toml:"members,required"`
	}{}
	if _, isTable := raw.(map[string]any); isTable {
		d.table(key, raw, reflect.ValueOf(&table).Elem())
	} else {
		d.value(key, raw, reflect.ValueOf(&table.Members).Elem(), false)
	}
	g.Object, g.Members = table.Object, table.Members
	g.setKey(key)
}

// MembersKey is the path of the list of members, whichever shape was written.
func membersKey(x *index, key string) string {
	if members := child(key, "members"); x.has(members) {
		return members
	}
	return key
}

// aliasMember is a word in an alias, before it is known whether the alias
// holds addresses or ports: a bare name can be either.
type aliasMember struct {
	key    string
	port   PortTerm
	addr   AddressTerm
	isPort bool
	isName bool
}

// UnmarshalTOML tells ports from addresses and names by their form.
func (m *aliasMember) UnmarshalTOML(raw any) error {
	errPort := m.port.UnmarshalTOML(raw)
	if errPort == nil && m.port.Name == "" {
		m.isPort = true
		return nil
	}
	s, ok := raw.(string)
	if !ok {
		return errPort
	}
	err := m.addr.UnmarshalText([]byte(s))
	m.isName = err == nil && m.addr.Kind == TermAlias
	return err
}

// decode takes a list of members, or a table with them.
func (a *Alias) decode(d *decoder, key string, raw any) {
	table := struct {
		Shared
		Members []aliasMember `toml:"members"`
	}{}
	if _, isTable := raw.(map[string]any); isTable {
		d.table(key, raw, reflect.ValueOf(&table).Elem())
	} else {
		d.value(key, raw, reflect.ValueOf(&table.Members).Elem(), false)
	}
	list := membersKey(d.index, key)
	for i := range table.Members {
		table.Members[i].key = element(list, i)
	}
	a.Shared, a.members = table.Shared, table.Members
	a.setKey(key)
}

// decode takes the name of a preset, or a table of single time-outs.
func (t *Timeouts) decode(d *decoder, key string, raw any) {
	if _, isTable := raw.(map[string]any); isTable {
		d.value(key, raw, reflect.ValueOf(&t.Set).Elem(), false)
		return
	}
	d.value(key, raw, reflect.ValueOf(&t.Preset).Elem(), false)
}

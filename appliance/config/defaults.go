package config

// Defaults of docs/configuration.md. Each entry gets its own before it is read.

func (o *Object) setKey(key string) { o.Key = key }

func (i *Interface) setName(name string) { i.Name = name }
func (g *Group) setName(name string)     { g.Name = name }
func (a *Alias) setName(name string)     { a.Name = name }

func (d *Document) setDefaults() {
	d.Schema = schemaVersion
	d.NAT.Outbound.Mode = NATAutomatic
	d.System.setDefaults() // Also where the file has no such section.
	d.HA.setDefaults()
	d.Firewall.setDefaults()
}

func (s *System) setDefaults() {
	s.Timezone = "UTC"
	s.StateDir = "/var/lib/appliance"
	s.Control = "/run/appliance/control.sock"
	s.LogLevel = "info"
}

func (l *Link) setDefaults() {
	l.Offload, l.TakeOver = true, true
	l.Kind = SocketStream
}

func (h *HA) setDefaults() {
	h.Preempt = true
	h.FailureDetection, h.VIPMAC, h.Replay = DetectStandard, VIPMACAuto, ReplayReport
}

func (f *Firewall) setDefaults() {
	f.MaxStates = 1_000_000
	f.Timeouts.Preset = TimeoutsNormal
	f.LogDefaultBlock, f.IPv6 = true, true
}

func (v *VirtualIP) setDefaults() { v.AdvBase = 1 }

func (r *Rule) setDefaults() {
	r.Family, r.Direction, r.State = FamilyAny, DirectionIn, StateKeep
}

func (o *Outbound) setDefaults() { o.Mode = NATAutomatic }

func (r *OutboundRule) setDefaults() { r.Family = FamilyAny }

func (f *PortForward) setDefaults() { f.Family, f.Rule = FamilyAny, ForwardAssociated }

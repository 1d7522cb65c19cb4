package lab

import (
	"fmt"
	"slices"
	"strings"

	"tandem/appliance/config"
)

// topologyEvent is one thing that is done to the world. Exactly one of the
// keys behind Name is given.
type topologyEvent struct {
	At   config.Duration `toml:"at,required"`
	Name string          `toml:"name"` // what the time line says; default: what is done

	PowerOn        string    `toml:"power_on"`        // an appliance, a host or a switch
	PowerOff       string    `toml:"power_off"`       // the same; an appliance says farewell first
	Crash          string    `toml:"crash"`           // an appliance, between two instructions
	Unplug         string    `toml:"unplug"`          // "fw-primary.wan", or a host
	Plug           string    `toml:"plug"`            // the same
	CARPDisable    string    `toml:"carp_disable"`    // on an appliance
	CARPEnable     string    `toml:"carp_enable"`     // the same
	Maintenance    string    `toml:"maintenance"`     // an appliance enters it
	MaintenanceEnd string    `toml:"maintenance_end"` // and leaves it
	Split          partition `toml:"partition"`
	OneWay         oneWay    `toml:"one_way"`
	Heal           string    `toml:"heal"` // a switch: ends partition and one_way
	Skew           clockSkew `toml:"clock_skew"`
}

// partition splits a switch: frames pass within a group only.
type partition struct {
	Switch string     `toml:"switch"`
	Groups [][]string `toml:"groups"`
}

// oneWay stops frames in one direction.
type oneWay struct {
	Switch string `toml:"switch"`
	From   string `toml:"from"`
	To     string `toml:"to"`
}

// clockSkew gives an appliance's clock another idea of the time.
type clockSkew struct {
	Appliance string          `toml:"appliance"`
	Ahead     config.Duration `toml:"ahead"`
	PPM       int             `toml:"ppm"` // how fast it runs, in parts per million
}

// deed is one thing that an event may do.
type deed struct {
	key    string
	target string // empty: the event does not ask for it
	kinds  string // of what target may be
	say    string
	do     func(c *cluster) error
}

// deeds lists what an event could do; those with a target are asked for.
func (e *topologyEvent) deeds() []deed {
	on := func(key, target, say string, do func(m *machine) error) deed {
		return deed{key, target, "appliance", say, func(c *cluster) error {
			m := c.machine(target)
			if m.node == nil && key != "power_on" {
				return fmt.Errorf("%s: %s is off", key, target)
			}
			return do(m)
		}}
	}
	skew := e.Skew
	return []deed{
		{"power_on", e.PowerOn, "appliance host switch", "is switched on", func(c *cluster) error { return c.powerOn(e.PowerOn) }},
		{"power_off", e.PowerOff, "appliance host switch", "is shut down", func(c *cluster) error { return c.powerOff(e.PowerOff) }},
		on("crash", e.Crash, "crashes", func(m *machine) error { m.cut(); return nil }),
		{"unplug", e.Unplug, "cable", "'s cable is pulled", func(c *cluster) error { c.jack(e.Unplug).Pull(); return nil }},
		{"plug", e.Plug, "cable", "'s cable is put back", func(c *cluster) error { c.jack(e.Plug).Push(); return nil }},
		on("carp_disable", e.CARPDisable, "has CARP switched off", func(m *machine) error { m.node.SetEnabled(false); return nil }),
		on("carp_enable", e.CARPEnable, "has CARP switched on", func(m *machine) error { m.node.SetEnabled(true); return nil }),
		on("maintenance", e.Maintenance, "enters maintenance mode", func(m *machine) error { return m.node.SetMaintenance(true) }),
		on("maintenance_end", e.MaintenanceEnd, "leaves maintenance mode", func(m *machine) error { return m.node.SetMaintenance(false) }),
		{"partition", e.Split.Switch, "switch", "is split", func(c *cluster) error { c.switchOf(e.Split.Switch).Partition(e.Split.Groups...); return nil }},
		{"one_way", e.OneWay.Switch, "switch", fmt.Sprintf("carries nothing from %s to %s", e.OneWay.From, e.OneWay.To),
			func(c *cluster) error { c.switchOf(e.OneWay.Switch).Cut(e.OneWay.From, e.OneWay.To); return nil }},
		{"heal", e.Heal, "switch", "is whole again", func(c *cluster) error { c.switchOf(e.Heal).Heal(); return nil }},
		{"clock_skew", skew.Appliance, "appliance", fmt.Sprintf("has its clock %v ahead and %d ppm fast", skew.Ahead.Duration, skew.PPM),
			func(c *cluster) error {
				clock := c.world.Clock(skew.Appliance)
				clock.SetOffset(skew.Ahead.Duration)
				clock.SetDrift(float64(skew.PPM))
				return nil
			}},
	}
}

// asked is the one deed of the event; false: none, or several.
func (e *topologyEvent) asked() (deed, bool) {
	all := slices.DeleteFunc(e.deeds(), func(d deed) bool { return d.target == "" })
	if len(all) != 1 {
		return deed{}, false
	}
	return all[0], true
}

// text is what the time line says.
func (e *topologyEvent) text() string {
	if e.Name != "" {
		return e.Name
	}
	d, _ := e.asked()
	if strings.HasPrefix(d.say, "'") {
		return d.target + d.say
	}
	return d.target + " " + d.say
}

// event checks that exactly one thing is asked for, of something that is there.
func (c *topologyCheck) event(key string, e *topologyEvent) {
	d, ok := e.asked()
	if !ok {
		var keys []string
		for _, d := range e.deeds() {
			keys = append(keys, d.key)
		}
		c.errorf(key, "does nothing, or several things; give exactly one of %s", strings.Join(keys, ", "))
		return
	}
	var names []string
	for kind := range strings.FieldsSeq(d.kinds) {
		switch kind {
		case "appliance":
			names = append(names, c.t.machineNames()...)
		case "host":
			names = append(names, c.t.hostNames()...)
		case "switch":
			names = append(names, c.t.switchNames()...)
		case "cable":
			names = append(names, c.t.hostNames()...)
			for _, m := range c.t.Appliances {
				for _, p := range m.plugs {
					names = append(names, m.Name+"."+p.Interface)
				}
			}
		}
	}
	c.known(key+"."+d.key, strings.ReplaceAll(d.kinds, " ", " or "), d.target, names)
	stations := append(c.t.machineNames(), c.t.hostNames()...)
	for _, group := range e.Split.Groups {
		for _, name := range group {
			c.known(key+".partition.groups", "appliance or host", name, stations)
		}
	}
	if e.OneWay.Switch != "" {
		c.known(key+".one_way.from", "appliance or host", e.OneWay.From, stations)
		c.known(key+".one_way.to", "appliance or host", e.OneWay.To, stations)
	}
	if e.Skew.PPM <= -1e6 {
		c.errorf(key+".clock_skew.ppm", "a clock that does not run is none")
	}
}

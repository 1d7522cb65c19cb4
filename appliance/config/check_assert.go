package config

func (c *checker) asserts() {
	for n := range c.doc.Asserts {
		a := &c.doc.Asserts[n]
		if a.Disabled {
			continue
		}
		if !a.From.Self && a.From.Interface != "" {
			if i, ok := c.mustBeInterface(a.Key+".from", a.From.Interface); ok && i.Disabled {
				c.errorf(a.Key+".from", "%s is disabled; enable it, or disable the assert too", i.Name)
			}
		}
		if a.From.Source.IsValid() && a.To.Destination.IsValid() && a.From.Source.Is4() != a.To.Destination.Is4() {
			c.errorf(a.Key+".to", "%v and %v are of two families; give both in one", a.From.Source, a.To.Destination)
		}
		if a.OutInterface != "" && a.OutInterface != "self" {
			c.mustBeInterface(a.Key+".out_interface", a.OutInterface)
		}
		if a.Expect != ExpectPass && a.Expect != "" {
			for _, name := range []string{"out_interface", "nat_source"} {
				if c.index.has(child(a.Key, name)) {
					c.errorf(child(a.Key, name), "a packet that is stopped never leaves; leave it out, or expect = \"pass\"")
				}
			}
		}
	}
}

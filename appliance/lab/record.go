package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tandem/netstack/capture"
	"tandem/netstack/vnet"
)

// record captures every switch into a folder, if one is asked for. The
// function returned ends it.
func (r *run) record() (func() error, error) {
	if r.opts.PCAP == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(r.opts.PCAP, 0o755); err != nil {
		return nil, err
	}
	var ends []func() error
	for _, sw := range r.c.switches {
		end, err := recordSwitch(sw, filepath.Join(r.opts.PCAP, sw.Name()+".pcapng"))
		if err != nil {
			return nil, err
		}
		ends = append(ends, end)
	}
	return func() error {
		for _, end := range ends {
			if err := end(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// recordSwitch captures what enters one switch.
func recordSwitch(sw *vnet.Switch, path string) (func() error, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w, err := capture.NewWriter(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var failed error
	sw.Tap(func(now time.Time, port string, dir vnet.Direction, frame []byte) {
		if dir == vnet.Sent && failed == nil {
			failed = w.Write(&capture.Packet{Time: now, Iface: port, Dir: capture.In, Len: len(frame), Data: frame})
		}
	})
	return func() error {
		if err := w.Flush(); failed == nil {
			failed = err
		}
		if err := f.Close(); failed == nil {
			failed = err
		}
		if failed != nil {
			return fmt.Errorf("%s: %w", path, failed)
		}
		return nil
	}, nil
}

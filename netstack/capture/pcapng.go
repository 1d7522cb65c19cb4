package capture

import (
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Writer writes packets to a pcapng file: one section, an interface block for
// each name, stamps in nanoseconds, and with each packet its direction and
// how long it was. It is for one goroutine.
type Writer struct {
	out    io.Writer
	ng     *pcapgo.NgWriter // nil until the first interface is known; it buffers
	ifaces map[string]int
}

// NewWriter returns a writer that knows the named interfaces; it adds others
// as they come.
func NewWriter(w io.Writer, ifaces ...string) (*Writer, error) {
	n := &Writer{out: w, ifaces: map[string]int{}}
	for _, name := range ifaces {
		if _, err := n.iface(name); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// iface is the number of the interface name in this file.
func (w *Writer) iface(name string) (int, error) {
	if id, ok := w.ifaces[name]; ok {
		return id, nil
	}
	id := 0
	var err error
	description := pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, SnapLength: SnapLenMax}
	if w.ng == nil {
		// The library begins a file with its first interface.
		w.ng, err = pcapgo.NewNgWriterInterface(w.out, description, pcapgo.NgWriterOptions{
			SectionInfo: pcapgo.NgSectionInfo{Application: "appliance"},
		})
	} else {
		id, err = w.ng.AddInterface(description)
	}
	if err != nil {
		return 0, fmt.Errorf("capture file: interface %s: %w", name, err)
	}
	w.ifaces[name] = id
	return id, nil
}

// Write appends p.
func (w *Writer) Write(p *Packet) error {
	id, err := w.iface(p.Iface)
	if err != nil {
		return err
	}
	flags := &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionUnknown}
	switch p.Dir {
	case In:
		flags.Direction = pcapgo.NgEpbFlagDirectionInbound
	case Out:
		flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	info := gopacket.CaptureInfo{
		Timestamp:      p.Time,
		CaptureLength:  len(p.Data),
		Length:         max(p.Len, len(p.Data)),
		InterfaceIndex: id,
	}
	if err := w.ng.WritePacketWithOptions(info, p.Data, pcapgo.NgPacketOptions{Flags: flags}); err != nil {
		return fmt.Errorf("capture file: packet of %d bytes: %w", len(p.Data), err)
	}
	return nil
}

// Flush hands all that was written to the file below. A file without packets
// and interfaces is given one named "none", since readers refuse an empty one.
func (w *Writer) Flush() error {
	if w.ng == nil {
		if _, err := w.iface("none"); err != nil {
			return err
		}
	}
	if err := w.ng.Flush(); err != nil {
		return fmt.Errorf("capture file: %w", err)
	}
	return nil
}

package capture

import (
	"bytes"
	"errors"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
)

func TestFileCanBeReadAgain(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, "wan")
	if err != nil {
		t.Fatal(err)
	}
	packets := []Packet{
		{Time: noon, Iface: "wan", Dir: In, Len: len(syn4), Data: syn4},
		{Time: noon.Add(1), Iface: "lan", Dir: Out, Len: len(syn4), Data: syn4[:21]},
		{Time: noon.Add(2), Iface: "wan", Len: 42, Data: arpWho},
	}
	for i := range packets {
		if err := w.Write(&packets[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	options := pcapgo.DefaultNgReaderOptions
	options.WantMixedLinkType = true
	r, err := pcapgo.NewNgReader(&file, options)
	if err != nil {
		t.Fatal(err)
	}
	directions := []pcapgo.NgEpbFlag{pcapgo.NgEpbFlagDirectionInbound, pcapgo.NgEpbFlagDirectionOutbound, pcapgo.NgEpbFlagDirectionUnknown}
	for i, want := range packets {
		data, info, opts, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		iface, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, want.Data) || !info.Timestamp.Equal(want.Time) || info.Length != want.Len || iface.Name != want.Iface {
			t.Errorf("packet %d: %+v on %s, want %+v", i, info, iface.Name, want)
		}
		if opts.Flags == nil || opts.Flags.Direction != directions[i] {
			t.Errorf("packet %d: flags %+v", i, opts.Flags)
		}
	}
}

func TestEmptyFileIsAFile(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions); err != nil {
		t.Error(err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestFullDiskIsAnError(t *testing.T) {
	w, err := NewWriter(full{})
	if err != nil {
		t.Fatal(err)
	}
	p := Packet{Time: noon, Iface: "wan", Len: len(syn4), Data: syn4}
	for range 1000 {
		if err = w.Write(&p); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("1000 packets went to a full disk")
	}
	if w.Flush() == nil {
		t.Error("Flush() to a full disk worked")
	}
}

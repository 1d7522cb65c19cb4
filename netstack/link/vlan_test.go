package link

import (
	"bytes"
	"testing"
)

func TestTagsGoAndComeBack(t *testing.T) {
	offload := Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: SegmentTCP4, HeaderLen: 54, SegSize: 1460}
	plain := append([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x08, 0x00}, bytes.Repeat([]byte{0x45}, 46)...)
	f := NewFrame(1500)
	f.Set(plain)
	f.Offload = offload

	PushTag(f, TPID8021Q, 0x2064)
	PushTag(f, TPID8021AD, 5)
	want := append(bytes.Clone(plain[:12]), 0x88, 0xa8, 0, 5, 0x81, 0, 0x20, 0x64)
	want = append(want, plain[12:]...)
	if !bytes.Equal(f.Bytes(), want) {
		t.Fatalf("tagged frame\n%x\nwant\n%x", f.Bytes(), want)
	}
	if f.Offload.ChecksumStart != 42 || f.Offload.HeaderLen != 62 {
		t.Errorf("offsets after two tags: %+v", f.Offload)
	}

	if tci, tpid, ok := PopTag(f); !ok || tci != 5 || tpid != TPID8021AD {
		t.Errorf("outer PopTag() = %#x, %#x, %v", tci, tpid, ok)
	}
	if tci, tpid, ok := PopTag(f); !ok || tci != 0x2064 || tpid != TPID8021Q {
		t.Errorf("inner PopTag() = %#x, %#x, %v", tci, tpid, ok)
	}
	if !bytes.Equal(f.Bytes(), plain) || f.Offload != offload || f.Off != HeadRoom {
		t.Errorf("frame after both are gone: %x at %d, %+v", f.Bytes(), f.Off, f.Offload)
	}
	if _, _, ok := PopTag(f); ok {
		t.Error("PopTag() of a frame without a tag")
	}
}

func TestUnusedOffsetsStayZeroUnderTags(t *testing.T) {
	f := NewFrame(100)
	f.Set(make([]byte, 60))
	PushTag(f, TPID8021Q, 1)
	if f.Offload != (Offload{}) {
		t.Errorf("PushTag() set %+v", f.Offload)
	}
}

func TestPopTagLeavesWhatIsCutShort(t *testing.T) {
	for n := range 18 {
		f := NewFrame(100)
		b := make([]byte, 18)
		b[12] = 0x81
		f.Set(b[:n])
		if _, _, ok := PopTag(f); ok || f.Len != n {
			t.Errorf("%d bytes: a tag was found", n)
		}
	}
}

func TestTagsDoNotAllocate(t *testing.T) {
	f := NewFrame(100)
	f.Set(make([]byte, 60))
	if n := testing.AllocsPerRun(100, func() { PushTag(f, TPID8021Q, 7); PopTag(f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

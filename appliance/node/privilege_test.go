package node

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestRightsOfEachLandlock holds the rights that are asked for against those
// that a version knows: one more and the kernel refuses the lot.
func TestRightsOfEachLandlock(t *testing.T) {
	for version, want := range map[int]uint64{1: 0x1fff, 2: 0x3fff, 3: 0x7fff, 4: 0x7fff, 5: 0xffff, 6: 0xffff, 9: 0xffff} {
		if got := landHandled(version); got != want {
			t.Errorf("version %d: %#x, want %#x", version, got, want)
		}
	}
	for name, rights := range map[string]uint64{"read": landRead, "write": landWrite, "device": landDevice} {
		if rights&^landHandled(5) != 0 {
			t.Errorf("%s: %#x is more than is restricted", name, rights)
		}
		if rights&unix.LANDLOCK_ACCESS_FS_EXECUTE != 0 {
			t.Errorf("%s: a node starts no program", name)
		}
	}
}

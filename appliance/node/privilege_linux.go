package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capsKept is what a node needs for its devices as long as it runs.
const capsKept = uint64(1)<<unix.CAP_NET_ADMIN | uint64(1)<<unix.CAP_NET_RAW

// capsMax bounds the search for the last capability that the kernel knows.
const capsMax = 64

// Confinement is what a process keeps of the file system.
type Confinement struct {
	Read  []string // files and folders
	Write []string // folders in which files are made, replaced and removed
	// Devices are device files that are opened again when a device was gone.
	Devices []string
}

// Confine gives up, for good and for every thread of the process, what a
// running node does not need: all capabilities but CAP_NET_ADMIN and
// CAP_NET_RAW (capabilities(7)), the gain of new privileges (prctl(2),
// PR_SET_NO_NEW_PRIVS), core dumps, and the file system but for c
// (landlock(7)). It returns in words what this system does not offer, which is
// no error: the node runs with a step less behind it.
//
// What has been opened stays open. A binary that is linked with C cannot reach
// all of its threads, and only says so.
func Confine(c Confinement) ([]string, error) {
	if err := noCoreDumps(); err != nil {
		return nil, fmt.Errorf("no core dumps: %w", err)
	}
	if err := everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return []string{"privileges are kept: this binary is linked with C; build it with CGO_ENABLED=0"}, nil
		}
		return nil, fmt.Errorf("no new privileges: %w", err)
	}
	notes, err := narrowFiles(c)
	if err != nil {
		return nil, fmt.Errorf("narrow the file system: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return nil, fmt.Errorf("drop capabilities: %w", err)
	}
	return notes, nil
}

// noCoreDumps keeps keys and passwords out of files. Being not dumpable also
// keeps other processes of the user from looking in.
func noCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// everyThread makes a system call on all threads; those that start later
// inherit its effect. It panics if they do not agree, which only a thread that
// changed itself could cause.
func everyThread(trap, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(trap, a, b, c, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// dropCapabilities leaves capsKept, as far as they are there, in the effective
// and permitted sets, and nothing in those that a new program would inherit.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	// Without CAP_SETPCAP the bounding set stays. It is of no use then: with
	// no-new-privileges no program gives a capability.
	if data[0].Effective&(1<<unix.CAP_SETPCAP) != 0 {
		for c := range uintptr(capsMax) {
			if capsKept&(1<<c) != 0 {
				continue
			}
			err := everyThread(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
			if errors.Is(err, unix.EINVAL) {
				break // The kernel knows no more.
			}
			if err != nil {
				return fmt.Errorf("bounding set, capability %d: %w", c, err)
			}
		}
	}
	err := everyThread(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // Before Linux 4.3 there is no such set.
		return fmt.Errorf("ambient set: %w", err)
	}
	for i := range data {
		kept := data[i].Permitted & uint32(capsKept>>(32*i))
		data[i] = unix.CapUserData{Effective: kept, Permitted: kept}
	}
	header.Pid = 0 // The calling thread, each in turn.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return fmt.Errorf("capset: %w", errno)
	}
	return nil
}

// Rights of landlock(7).
const (
	landRead     = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landWrite    = landRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	landDevice   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	landFileOnly = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// landHandled is what a version of Landlock can restrict: all of it is.
func landHandled(version int) uint64 {
	handled := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1)
	for _, later := range []struct {
		version int
		right   uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if version >= later.version {
			handled |= later.right
		}
	}
	return handled
}

// narrowFiles confines the process to c by Landlock, where the kernel has it.
func narrowFiles(c Confinement) ([]string, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return []string{"the file system is not narrowed: this kernel has no Landlock"}, nil
	}
	if errno != 0 {
		return nil, fmt.Errorf("landlock version: %w", errno)
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: landHandled(int(version))}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	for _, list := range []struct {
		paths  []string
		rights uint64
	}{{c.Read, landRead}, {c.Write, landWrite}, {c.Devices, landDevice}} {
		for _, path := range list.paths {
			if err := allowPath(fd, path, list.rights&attr.Handled_access_fs); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	if err := everyThread(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); err != nil {
		return nil, fmt.Errorf("landlock: %w", err)
	}
	return nil, nil
}

// allowPath adds a rule; a path that is not there needs none.
func allowPath(ruleset uintptr, path string, rights uint64) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		rights &= landFileOnly
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

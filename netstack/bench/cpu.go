package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of times in /proc (proc(5)); it is the
// same on every architecture Go runs on.
const ticksPerSecond = 100

// usage is the CPU time of a stretch of a measurement, in seconds. On a
// kernel that accounts by ticks, work that a process does for others in its
// own system calls and soft interrupts is the process's own.
type usage struct {
	Wall    float64
	Machine float64 // all that was not idle, and not stolen by the hypervisor
	Device  float64 // the process under test; 0 for the kernel
	Ends    float64 // load generators, their servers and this program
	Foreign float64 // processes that have nothing to do with us
}

// process is a line of /proc/PID/stat.
type process struct {
	pid, parent int
	kernel      bool
	ticks       uint64 // of its own
	reaped      uint64 // of children it has waited for
}

// moment is the state of all clocks at once.
type moment struct {
	at        time.Time
	machine   uint64
	processes []process
}

// now reads the clocks.
func now() (moment, error) {
	m := moment{at: time.Now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	if m.machine, err = parseBusy(line); err != nil {
		return m, err
	}
	folder, err := os.Open("/proc")
	if err != nil {
		return m, err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return m, err
	}
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		b, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // It has just ended.
		}
		if p, err := parseProcess(string(b)); err == nil {
			m.processes = append(m.processes, p)
		}
	}
	return m, nil
}

// parseBusy adds up the ticks of /proc/stat's first line in which the machine
// did something: user, nice, system, interrupts and soft interrupts.
func parseBusy(line string) (uint64, error) {
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, fmt.Errorf("first line of /proc/stat: %q", line)
	}
	var sum uint64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("first line of /proc/stat: %q", line)
		}
		sum += n
	}
	return sum, nil
}

// kthreadd is the parent of all kernel threads.
const kthreadd = 2

// parseProcess reads /proc/PID/stat. The name in it may hold anything.
func parseProcess(line string) (process, error) {
	bad := fmt.Errorf("process status %q", line)
	head, rest, ok := strings.Cut(line, " (")
	end := strings.LastIndexByte(rest, ')')
	if !ok || end < 0 {
		return process{}, bad
	}
	f := strings.Fields(rest[end+1:]) // f[0] is field 3, the state
	if len(f) < 15 {
		return process{}, bad
	}
	var p process
	var times [4]uint64 // fields 14 to 17
	var err1, err2 error
	p.pid, err1 = strconv.Atoi(head)
	p.parent, err2 = strconv.Atoi(f[1])
	if err1 != nil || err2 != nil {
		return process{}, bad
	}
	for i := range times {
		n, err := strconv.ParseInt(f[11+i], 10, 64)
		if err != nil {
			return process{}, bad
		}
		times[i] = uint64(max(0, n))
	}
	p.kernel = p.pid == kthreadd || p.parent == kthreadd
	p.ticks, p.reaped = times[0]+times[1], times[2]+times[3]
	return p, nil
}

// since is the CPU time between two moments; device is the process under
// test, or 0, and self the root of all processes of the benchmark.
func (m moment) since(before moment, device, self int) usage {
	ours, theirs, dut := m.split(device, self)
	ours0, theirs0, dut0 := before.split(device, self)
	return usage{
		Wall:    m.at.Sub(before.at).Seconds(),
		Machine: seconds(m.machine, before.machine),
		Device:  seconds(dut, dut0),
		Ends:    seconds(ours, ours0),
		Foreign: seconds(theirs, theirs0),
	}
}

func seconds(after, before uint64) float64 {
	// A process that ended unwaited takes its time with it.
	return float64(max(after, before)-before) / ticksPerSecond
}

// split adds up the ticks of the benchmark without the device under test, of
// strangers, and of the device.
func (m moment) split(device, self int) (ends, foreign, dut uint64) {
	parents := make(map[int]int, len(m.processes))
	for _, p := range m.processes {
		parents[p.pid] = p.parent
	}
	for _, p := range m.processes {
		switch {
		case p.kernel:
		case p.pid == device:
			dut += p.ticks
		case descends(parents, p.pid, self):
			ends += p.ticks + p.reaped
		default:
			foreign += p.ticks + p.reaped
		}
	}
	return ends, foreign, dut
}

// descends says whether pid is ancestor or comes from it.
func descends(parents map[int]int, pid, ancestor int) bool {
	for steps := 0; pid > 1 && steps <= len(parents); steps++ {
		if pid == ancestor {
			return true
		}
		pid = parents[pid]
	}
	return false
}

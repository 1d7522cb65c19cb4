package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// priority is what raisePriority changed and restore puts back.
type priority struct {
	session string      // the nice value of the session's task group, "" if unchanged
	threads map[int]int // nice values of the kernel's soft-interrupt threads
}

const autogroupFile = "/proc/self/autogroup"

// raisePriority puts the tasks of this session (sched(7), "autogroup"), and
// with it all that the benchmark starts, before those of others, and the
// kernel's soft-interrupt threads on the same level: they carry the packets,
// and would wait for us otherwise. Where there are no autogroups only the
// processes' own nice values count, and nothing is changed.
func raisePriority(nice int) (priority, error) {
	p := priority{threads: map[int]int{}}
	b, err := os.ReadFile(autogroupFile)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	_, before, ok := strings.Cut(strings.TrimSpace(string(b)), " nice ")
	if !ok {
		return p, fmt.Errorf("%s: %q", autogroupFile, b)
	}
	if err := os.WriteFile(autogroupFile, []byte(strconv.Itoa(nice)), 0); err != nil {
		return p, err
	}
	p.session = before
	threads, err := softInterruptThreads()
	if err != nil {
		return p, err
	}
	for _, pid := range threads {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
		if err != nil {
			continue
		}
		before := 20 - raw // the system call returns 20 - nice
		if err := unix.Setpriority(unix.PRIO_PROCESS, pid, nice); err != nil {
			return p, fmt.Errorf("raise ksoftirqd %d: %w", pid, err)
		}
		p.threads[pid] = before
	}
	return p, nil
}

func softInterruptThreads() ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		name, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(name), "ksoftirqd/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// restore undoes it. What cannot be undone is left; it harms nobody.
func (p priority) restore() {
	for pid, nice := range p.threads {
		_ = unix.Setpriority(unix.PRIO_PROCESS, pid, nice)
	}
	if p.session != "" {
		_ = os.WriteFile(autogroupFile, []byte(p.session), 0)
	}
}

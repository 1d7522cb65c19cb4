package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// valueBytesMax bounds one value of a store; they are small by nature.
const valueBytesMax = 1 << 20

// lockName is the file of a state folder that its node has locked.
const lockName = "lock"

// ErrLocked says that another node uses the state folder.
var ErrLocked = errors.New("another node uses the state folder")

// DirStore keeps each value in a file of a folder, the `state_dir`. A write is
// atomic: after a crash there is the old value or the new one. Files are for
// the owner alone (mode 0600). While a DirStore is open no other node can open
// the same folder.
type DirStore struct {
	dir  string
	lock *os.File
	mu   sync.Mutex // one writer at a time: temporary names are fixed
}

// OpenDirStore makes the folder if it is missing and locks it, or returns
// [ErrLocked] with the process id of the node that has it.
func OpenDirStore(dir string) (*DirStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		owner, readErr := io.ReadAll(io.LimitReader(f, 20))
		if who := strings.TrimSpace(string(owner)); readErr == nil && who != "" {
			err = fmt.Errorf("%w %s: process %s; stop it, or give this node another [system] state_dir", ErrLocked, dir, who)
		} else {
			err = fmt.Errorf("%w %s", ErrLocked, dir)
		}
		return nil, errors.Join(err, f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		return nil, fmt.Errorf("lock state folder %s: %w", dir, errors.Join(err, f.Close()))
	}
	return &DirStore{dir: dir, lock: f}, nil
}

// Close lets another node have the folder.
func (s *DirStore) Close() error { return s.lock.Close() }

// path is the file of a value; names are words, never ways to other folders.
func (s *DirStore) path(name string) (string, error) {
	if name == "" || name == lockName || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("value %q: that is no name for a value", name)
	}
	return filepath.Join(s.dir, name), nil
}

// Get implements [Store].
func (s *DirStore) Get(name string) ([]byte, error) {
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("value %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, valueBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("value %s: %w", name, err)
	}
	if len(b) > valueBytesMax {
		return nil, fmt.Errorf("value %s: its file is longer than %d bytes", name, valueBytesMax)
	}
	return b, nil
}

// Put implements [Store]: a temporary file, sync, rename, sync of the folder.
func (s *DirStore) Put(name string, value []byte) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	if len(value) > valueBytesMax {
		return fmt.Errorf("value %s: %d bytes, at most %d are kept", name, len(value), valueBytesMax)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	temporary := filepath.Join(s.dir, "."+name+".new")
	if err := writeSynced(temporary, value); err != nil {
		return fmt.Errorf("value %s: %w", name, errors.Join(err, removeIfThere(temporary)))
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("value %s: %w", name, errors.Join(err, removeIfThere(temporary)))
	}
	if err := syncFolder(s.dir); err != nil {
		return fmt.Errorf("value %s: %w", name, err)
	}
	return nil
}

// writeSynced writes a file and waits until the disk has it.
func writeSynced(path string, value []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(value)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolder makes a rename last.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

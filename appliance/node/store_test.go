package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openStore(t *testing.T, dir string) *DirStore {
	t.Helper()
	s, err := OpenDirStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func TestStoreKeepsValuesOverARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "lib", "x")
	s := openStore(t, dir)
	if _, err := s.Get("maintenance"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a value that was never put: %v", err)
	}
	for _, value := range []string{"off", "on", ""} {
		if err := s.Put("maintenance", []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get("maintenance"); err != nil || string(got) != value {
			t.Errorf("Get = %q, %v, want %q", got, err, value)
		}
	}
	if err := s.Put("mac-wan", []byte("020000000001")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := openStore(t, dir).Get("mac-wan"); err != nil || string(got) != "020000000001" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
}

func TestStoreIsForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	s := openStore(t, dir)
	if err := s.Put("a", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "a"): 0o600, filepath.Join(dir, lockName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files, %v: a temporary one stays behind", len(entries), err)
	}
}

func TestStoreFolderIsLocked(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := OpenDirStore(dir)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("second node: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir)
}

func TestStoreRefusesNamesThatAreNone(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".a.new", lockName, "a\x00b"} {
		if err := s.Put(name, nil); err == nil {
			t.Errorf("Put(%q) is done", name)
		}
		if _, err := s.Get(name); err == nil {
			t.Errorf("Get(%q) is done", name)
		}
	}
}

// TestWriteThatFailsLeavesTheOldValue makes each step of a write fail.
func TestWriteThatFailsLeavesTheOldValue(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(dir string) error
	}{
		{"the temporary file cannot be made", func(dir string) error { return os.MkdirAll(filepath.Join(dir, ".a.new", "x"), 0o700) }},
		{"the disk is full", func(dir string) error { return os.Symlink("/dev/full", filepath.Join(dir, ".a.new")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			if err := s.Put("a", []byte("old")); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if err := s.Put("a", []byte("new")); err == nil {
				t.Error("no error")
			}
			if got, err := s.Get("a"); err != nil || string(got) != "old" {
				t.Errorf("the value is %q, %v", got, err)
			}
		})
	}
	dir := t.TempDir()
	s := openStore(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "a", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("a", []byte("new")); err == nil {
		t.Error("a rename over a folder has no error")
	}
	if _, err := os.Lstat(filepath.Join(dir, ".a.new")); err == nil {
		t.Error("the temporary file stays behind")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("a", []byte("new")); err == nil {
		t.Error("no error without a folder")
	}
}

func TestStoreBoundsValues(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if err := s.Put("a", make([]byte, valueBytesMax+1)); err == nil {
		t.Error("a value that is too long is kept")
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), make([]byte, valueBytesMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("b"); err == nil {
		t.Error("a file that is too long is read")
	}
	if _, err := OpenDirStore(filepath.Join(dir, "b")); err == nil {
		t.Error("a file is taken for a folder")
	}
}

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketIsPrivate(t *testing.T) {
	for _, tt := range []struct {
		group string
		want  os.FileMode
	}{{"", 0o600}, {fmt.Sprint(os.Getgid()), 0o660}} {
		path := filepath.Join(t.TempDir(), "c.sock")
		l, err := Listen(path, tt.group)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != tt.want {
			t.Errorf("group %q: mode %v, want %v", tt.group, info.Mode(), tt.want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestListenRefusesWhatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, path, group, want string }{
		{"a file", file, "", "no socket"},
		{"a group that is not there", filepath.Join(dir, "c"), "no-such-group", "no-such-group"},
		{"a path too long", filepath.Join(dir, strings.Repeat("x", pathBytesMax)), "", "107"},
		{"a folder that is a file", filepath.Join(file, "c"), "", "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Listen(tt.path, tt.group); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestStaleSocketIsReplacedLiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path, "")
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	defer l.Close()
	_, err = Listen(path, "")
	if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("live socket: %v", err)
	}
}

func TestSocketOfAnotherIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the other's socket is gone: %v", err)
	}
}

func TestClientSaysWhyNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	for path, want := range map[string]string{filepath.Join(dir, "none"): "no such socket", stale: "gone"} {
		_, err := NewClient(path).Status(context.Background())
		if !errors.Is(err, ErrNoNode) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	l, err := Listen(filepath.Join(t.TempDir(), "c.sock"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := l.(*listener)
	client, err := net.Dial("unix", own.path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(own.slots); n != 1 {
		t.Errorf("%d slots taken by one connection", n)
	}
	served.Close()
	served.Close() // http closes twice at times
	if n := len(own.slots); n != 0 {
		t.Errorf("%d slots taken after it closed", n)
	}
}

package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// connsMax bounds the connections that are served at a time; others wait.
	connsMax = 128
	// pathBytesMax is what the kernel takes for the path of a socket (unix(7)).
	pathBytesMax = 107
	dialTimeout  = 2 * time.Second
)

// ErrTaken says that another node answers on the socket.
var ErrTaken = errors.New("another node answers on the control socket")

// Listen makes the control socket: mode 0600, or 0660 with a group, by name or
// number, that may open it too. A socket that nobody answers on is replaced;
// one that somebody answers on is [ErrTaken], with the other's process id. The
// folder is made if it is missing.
//
// It changes the umask of the process for a moment, so it belongs into the
// start of a program.
func Listen(path, group string) (net.Listener, error) {
	if len(path) > pathBytesMax {
		return nil, fmt.Errorf("control socket %s: its path has %d bytes, and at most %d are possible", path, len(path), pathBytesMax)
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	l, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if gid >= 0 {
		if err = os.Chown(path, -1, gid); err == nil {
			err = os.Chmod(path, 0o660)
		}
	}
	var made fs.FileInfo
	if err == nil {
		made, err = os.Lstat(path)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", errors.Join(err, l.Close()))
	}
	return &listener{UnixListener: l, path: path, made: made, slots: make(chan struct{}, connsMax)}, nil
}

// listenPrivate binds a socket that only its owner can open from the first
// moment on.
func listenPrivate(path string) (*net.UnixListener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then it may be another node's
	return l, nil
}

// groupID finds a group; -1 for the empty name.
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("control_group %q: there is no such group", name)
	}
	return strconv.Atoi(g.Gid)
}

// clearStale removes the socket of a node that is gone.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: a file that is no socket stands there; move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		defer conn.Close()
		if peer, err := peerOf(conn); err == nil {
			return fmt.Errorf("%w %s: process %d; stop it, or give this node another [system] control", ErrTaken, path, peer.PID)
		}
		return fmt.Errorf("%w %s", ErrTaken, path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket: is it in use: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("control socket: remove what a node that is gone left: %w", err)
	}
	return nil
}

// listener bounds how many connections are open, and takes its own socket, and
// no other's, away in the end.
type listener struct {
	*net.UnixListener
	path  string
	made  fs.FileInfo
	slots chan struct{}
	once  sync.Once
}

// Accept waits for a free slot and a connection.
func (l *listener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.AcceptUnix()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{UnixConn: c, done: func() { <-l.slots }}, nil
}

// Close ends listening and removes the socket.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	l.once.Do(func() {
		if now, e := os.Lstat(l.path); e == nil && os.SameFile(now, l.made) {
			err = errors.Join(err, os.Remove(l.path))
		}
	})
	return err
}

// conn gives its slot back when it closes.
type conn struct {
	*net.UnixConn
	once sync.Once
	done func()
}

func (c *conn) Close() error {
	c.once.Do(c.done)
	return c.UnixConn.Close()
}

// peerOf asks the kernel who is at the other end.
func peerOf(c net.Conn) (Peer, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return Peer{}, fmt.Errorf("%T is no socket", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("peer of the control socket: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, fmt.Errorf("peer of the control socket: %w", err)
	}
	if failed != nil {
		return Peer{}, fmt.Errorf("peer of the control socket: %w", failed)
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}

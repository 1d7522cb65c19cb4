package link

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// endpoint is one parsed address of a socket device.
type endpoint struct {
	family int
	addr   unix.Sockaddr
	path   string // of a socket in the file system
	text   string // as the configuration has it
}

// parseEndpoint reads "unix:/path", "unix:@name", "/path", "tcp:host:port",
// "udp:host:port" or "host:port". A host is a numeric address; without one it
// is the loopback, since a wire into the node is not offered to all the world
// by leaving a word out.
func parseEndpoint(text string, kind string) (endpoint, error) {
	scheme, rest, found := strings.Cut(text, ":")
	switch {
	case found && scheme == "unix":
		return unixEndpoint(text, rest)
	case strings.HasPrefix(text, "/"):
		return unixEndpoint(text, text)
	case found && scheme == "tcp" && kind == KindStream, found && scheme == "udp" && kind == KindDatagram:
		return inetEndpoint(text, rest)
	case found && (scheme == "tcp" || scheme == "udp"):
		return endpoint{}, fmt.Errorf("%q does not go with the kind %q", text, kind)
	}
	return inetEndpoint(text, text)
}

func unixEndpoint(text, path string) (endpoint, error) {
	const pathBytesMax = 107 // unix(7)
	if path == "" || len(path) > pathBytesMax {
		return endpoint{}, fmt.Errorf("%q: a socket's path has 1 to %d bytes", text, pathBytesMax)
	}
	e := endpoint{family: unix.AF_UNIX, addr: &unix.SockaddrUnix{Name: path}, text: text}
	if path[0] != '@' {
		e.path = path
	}
	return e, nil
}

func inetEndpoint(text, hostPort string) (endpoint, error) {
	if strings.HasPrefix(hostPort, ":") {
		hostPort = "127.0.0.1" + hostPort
	}
	ap, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return endpoint{}, fmt.Errorf("%q: not an address and port: %w", text, err)
	}
	if a := ap.Addr().Unmap(); a.Is4() {
		return endpoint{family: unix.AF_INET, text: text, addr: &unix.SockaddrInet4{Addr: a.As4(), Port: int(ap.Port())}}, nil
	}
	return endpoint{family: unix.AF_INET6, text: text, addr: &unix.SockaddrInet6{Addr: ap.Addr().As16(), Port: int(ap.Port())}}, nil
}

// dropStale removes the file of a socket nobody answers at. A file that is no
// socket, or one that is alive, stays, and bind will say so.
func (e endpoint) dropStale(sockType int) {
	var st unix.Stat_t
	if e.path == "" || unix.Lstat(e.path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, sockType|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Connect(fd, e.addr) == unix.ECONNREFUSED {
		_ = unix.Unlink(e.path)
	}
}

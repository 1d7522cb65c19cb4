//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// listen opens a TCP listener in the namespace.
func (ns *namespace) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var l net.Listener
	if err := ns.do(func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// dial opens a connection from the namespace; local may be empty.
func (ns *namespace) dial(network, local, remote string, limit time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: limit}
	var conn net.Conn
	err := ns.do(func() error {
		if local != "" {
			a, err := net.ResolveTCPAddr("tcp", local)
			if err != nil {
				return err
			}
			d.LocalAddr = a
		}
		var err error
		conn, err = d.Dial(network, remote)
		return err
	})
	return conn, err
}

// packetConn opens a UDP socket in the namespace.
func (ns *namespace) packetConn(t *testing.T, address string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	if err := ns.do(func() (err error) { c, err = net.ListenPacket("udp", address); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echoUDP answers every datagram with where it came from, and its bytes.
func (ns *namespace) echoUDP(t *testing.T, address string) {
	t.Helper()
	c := ns.packetConn(t, address)
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s", from, b[:n]), from)
		}
	}()
}

// askUDP sends text to an echo and returns the answer.
func (ns *namespace) askUDP(t *testing.T, remote, text string) (string, error) {
	t.Helper()
	conn, err := ns.dial("udp", "", remote, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	b := make([]byte, 65536)
	for range 3 { // datagrams may be lost while somebody is looked for
		if _, err = conn.Write([]byte(text)); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		var n int
		if n, err = conn.Read(b); err == nil {
			return string(b[:n]), nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return "", err
		}
	}
	return "", err
}

// serveHTTP runs a web server that says who it is and who asks; /bytes?n gives
// bytes, and what is sent to it is answered by its sum.
func (ns *namespace) serveHTTP(t *testing.T, address, name string) {
	t.Helper()
	l := ns.listen(t, address)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s sees %s\n", name, host)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// curl fetches a page by the real thing.
func (ns *namespace) curl(url string) (string, error) {
	out, err := ns.try("curl --silent --show-error --max-time 5 " + url)
	return strings.TrimSpace(out), err
}

// pattern is a stream of bytes that depends on a seed alone.
type pattern struct{ source *rand.ChaCha8 }

func newPattern(seed byte) *pattern {
	return &pattern{rand.NewChaCha8([32]byte{seed})}
}

func (p *pattern) Read(b []byte) (int, error) { return p.source.Read(b) }

// transfer carries bytes over one TCP connection, from the listener's end to
// the dialer's or the other way, and compares the sums.
func transfer(t *testing.T, server *namespace, listen string, client *namespace, remote string, size int64, down bool) {
	t.Helper()
	l := server.listen(t, listen)
	defer l.Close()
	type result struct {
		sum []byte
		err error
	}
	far := make(chan result, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			far <- result{nil, err}
			return
		}
		defer conn.Close()
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		sum, err := half(conn, size, down)
		far <- result{sum, err}
	}()
	conn, err := client.dial("tcp", "", remote, patience)
	if err != nil {
		t.Fatalf("%s to %s: %v", client.name, remote, err)
	}
	defer conn.Close()
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	began := time.Now()
	near, err := half(conn, size, !down)
	if err != nil {
		t.Fatalf("transfer at the client: %v", err)
	}
	_ = conn.Close()
	r := <-far
	if r.err != nil {
		t.Fatalf("transfer at the server: %v", r.err)
	}
	if !bytes.Equal(near, r.sum) {
		t.Errorf("%d bytes arrived changed: sha256 %x, sent %x", size, near, r.sum)
	}
	t.Logf("%d MB from %s to %s, the same sha256: %.0f Mbit/s", size>>20, map[bool]string{true: "server", false: "client"}[down],
		map[bool]string{true: "client", false: "server"}[down], float64(size)*8/1e6/time.Since(began).Seconds())
}

// half is one end of a transfer: it sends, or receives to the end, and returns
// the sum of the bytes.
func half(conn net.Conn, size int64, send bool) ([]byte, error) {
	var sum hash.Hash = sha256.New()
	if send {
		_, err := io.CopyN(io.MultiWriter(conn, sum), newPattern(byte(size)), size)
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		if err == nil { // until the other end has it all
			_, err = io.Copy(io.Discard, conn)
		}
		return sum.Sum(nil), err
	}
	n, err := io.Copy(sum, conn)
	if err == nil && n != size {
		err = fmt.Errorf("%d of %d bytes arrived", n, size)
	}
	return sum.Sum(nil), err
}

//go:build linux

package sandbox

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// patience is how long a connection across the device under test may take.
const patience = 20 * time.Second

// Transfer sends size bytes over TCP between two kernels and checks them.
func Transfer(t testing.TB, from, to *Namespace, address string, size int) {
	t.Helper()
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	var listener net.Listener
	if err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan []byte, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			got <- nil
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		b, _ := io.ReadAll(conn)
		got <- b
	}()
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", listener.Addr().String(), patience)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(want); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes arrived, want the %d sent", len(b), len(want))
	}
}

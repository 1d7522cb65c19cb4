package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/appliance/status"
)

// world is a server on a socket of its own, and a client of it.
type world struct {
	node   *fakeNode
	client *Client
	path   string
	log    *bytes.Buffer

	mu    sync.Mutex
	notes []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{node: newFakeNode(), path: filepath.Join(t.TempDir(), "run", "c.sock"), log: &bytes.Buffer{}}
	l, err := Listen(w.path, "")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Config{Node: w.node, Note: func(who Peer, what string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notes = append(w.notes, fmt.Sprintf("%v: %s", who, what))
	}, Reload: func(context.Context) status.Reload {
		return status.Reload{Applied: true, Changed: []string{"rules: 1 came"}}
	}}, slog.New(slog.NewTextHandler(w.log, nil)))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	w.client = NewClient(w.path)
	t.Cleanup(func() {
		w.client.Close()
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(w.path); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return w
}

// get asks without the client, as a script with curl would.
func (w *world) get(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", w.path)
	}}}
	r, err := http.NewRequest(method, "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestDocumentsHaveNoNull(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"status", "carp", "carp/scan", "states", "states/count", "rules", "nat", "nat/toml", "arp", "routes", "interfaces", "log", "log?firewall=true"} {
		code, text := w.get(t, "GET", "/v1/"+path, "")
		if code != http.StatusOK || strings.Contains(text, "null") || !json.Valid([]byte(text)) {
			t.Errorf("%s: %d %.300s", path, code, text)
		}
	}
}

func TestRefusalsAreInWords(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name, method, path, body string
		code                     int
		want                     string
	}{
		{"a later version", "GET", "/v2/status", "", 404, "speaks version 1"},
		{"another path", "GET", "/v1/leases", "", 404, "knows no GET /v1/leases"},
		{"a change by GET", "GET", "/v1/reload", "", 404, "knows no GET"},
		{"no JSON", "POST", "/v1/carp/maintenance", "on", 400, "not understood"},
		{"a key it does not know", "POST", "/v1/carp/maintenance", `{"on":true,"for":"1h"}`, 400, "for"},
		{"two documents", "POST", "/v1/carp/maintenance", `{"on":true}{}`, 400, "follows"},
		{"too long", "POST", "/v1/states/kill", `{"filter":"` + strings.Repeat("x", bodyBytesMax) + `"}`, 413, "too large"},
		{"no address", "POST", "/v1/arp/delete", `{"address":"lan"}`, 400, "no address"},
		{"no time", "GET", "/v1/log?since=yesterday", "", 400, "RFC 3339"},
		{"the node's error", "GET", "/v1/carp/scan?interface=dmz", "", 422, "there is no interface"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, text := w.get(t, tt.method, tt.path, tt.body)
			var f fault
			if err := json.Unmarshal([]byte(text), &f); err != nil || code != tt.code || !strings.Contains(f.Error, tt.want) {
				t.Errorf("%d %s, want %d with %q", code, text, tt.code, tt.want)
			}
		})
	}
	if did := w.node.done(); len(did) != 0 {
		t.Errorf("a refused request did %v", did)
	}
}

func TestChangesAreNotedWithWhoMadeThem(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	killed, err := w.client.KillStates(ctx, "tcp :443")
	if err != nil || killed != 3 {
		t.Errorf("KillStates = %d, %v", killed, err)
	}
	out, err := w.client.Reload(ctx)
	if err != nil || !out.Applied || len(out.Changed) != 1 || out.Problems == nil {
		t.Errorf("Reload = %+v, %v", out, err)
	}
	for _, err := range []error{
		w.client.SetEnabled(ctx, false), w.client.SetEnabled(ctx, true), w.client.SetMaintenance(ctx, true),
		w.client.ResetDemotion(ctx), w.client.DeleteARP(ctx, netip.MustParseAddr("fe80::1")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{"kill tcp :443", "enabled off", "enabled on", "maintenance on", "reset", "arp fe80::1"}
	if did := w.node.done(); !slices.Equal(did, want) {
		t.Errorf("the node did %q, want %q", did, want)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.notes) != 7 {
		t.Errorf("%d notes: %q", len(w.notes), w.notes)
	}
	me := fmt.Sprintf("uid %d, process %d: ", os.Getuid(), os.Getpid())
	for _, n := range w.notes {
		if !strings.HasPrefix(n, me) {
			t.Errorf("note %q is not by %s", n, me)
		}
	}
}

func TestChangeThatFailsIsNotNoted(t *testing.T) {
	w := newWorld(t)
	w.node.fail = errors.New("keep maintenance mode: no space left")
	if err := w.client.SetMaintenance(context.Background(), true); err == nil || err.Error() != w.node.fail.Error() {
		t.Errorf("error = %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.notes) != 0 {
		t.Errorf("noted: %q", w.notes)
	}
}

func TestClientGetsWhatTheNodeHas(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	if n, err := w.client.Status(ctx); err != nil || n.Hostname != "fw" || n.Interfaces[0].Addresses == nil {
		t.Errorf("Status = %+v, %v", n, err)
	}
	count := 0
	if err := w.client.States(ctx, "udp", func(s *status.State) error {
		if s.Protocol != "udp" {
			t.Fatalf("filter did not arrive: %+v", s)
		}
		count++
		return nil
	}); err != nil || count != 3000 {
		t.Errorf("States: %d rows, %v", count, err)
	}
	for _, withAutomatic := range []bool{false, true} {
		rules, err := w.client.Rules(ctx, withAutomatic)
		if err != nil || (len(rules) == 2) != withAutomatic {
			t.Errorf("Rules(%v) = %d, %v", withAutomatic, len(rules), err)
		}
	}
	if text, err := w.client.NATText(ctx); err != nil || text != "[nat.outbound]\n" {
		t.Errorf("NATText = %q, %v", text, err)
	}
	if a, err := w.client.ARP(ctx); err != nil || a == nil || len(a) != 0 {
		t.Errorf("ARP = %v, %v", a, err)
	}
	stop := errors.New("enough")
	if err := w.client.States(ctx, "", func(*status.State) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("States ended with %v", err)
	}
}

func TestPanicOfTheNodeEndsOneRequestOnly(t *testing.T) {
	w := newWorld(t)
	w.node.panics = true
	if _, err := w.client.Status(context.Background()); err == nil || !strings.Contains(err.Error(), "shorter than it was") {
		t.Errorf("error = %v", err)
	}
	if !strings.Contains(w.log.String(), "stack") {
		t.Errorf("no stack in the log: %s", w.log)
	}
	if _, err := w.client.CARP(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestFollowingShowsNoLineTwiceAndMissesNone(t *testing.T) {
	w := newWorld(t)
	event := func(i int) status.Event {
		return status.Event{Time: start, Source: "carp", Message: fmt.Sprint("line ", i)}
	}
	w.node.past = []status.Event{event(1), event(2), event(3)}
	for _, i := range []int{2, 3, 4, 5} { // 2 and 3 happened between listening and looking back
		w.node.live <- event(i)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var got []string
	if err := w.client.FollowEvents(ctx, start.Add(-time.Hour), func(e *status.Event) error {
		if got = append(got, e.Message); len(got) == 5 {
			cancel()
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if want := []string{"line 1", "line 2", "line 3", "line 4", "line 5"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	<-w.node.stopped
}

func TestFirewallLogIsFollowed(t *testing.T) {
	w := newWorld(t)
	w.node.packets <- status.Packet{ID: "1"}
	w.node.packets <- status.Packet{ID: "2"}
	close(w.node.packets)
	var got []string
	if err := w.client.FollowPackets(context.Background(), time.Time{}, func(p *status.Packet) error {
		got = append(got, p.ID)
		return nil
	}); err != nil || !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCaptureEndsWithItsReader(t *testing.T) {
	w := newWorld(t)
	enough := errors.New("enough")
	count := 0
	err := w.client.Capture(context.Background(), "wan", "proto carp", func(f *status.Frame) error {
		if f.Interface != "wan" || string(f.Data) != "proto carp" {
			t.Fatalf("frame %+v", f)
		}
		if count++; count == 500 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("error = %v", err)
	}
	<-w.node.stopped
}

func TestStreamFaultBeforeAndAfterTheFirstLine(t *testing.T) {
	w := newWorld(t)
	w.node.fail = errors.New("no route\nto 192.0.2.1")
	for count, want := range []string{"no route\nto 192.0.2.1", "no route to 192.0.2.1"} {
		lines := 0
		err := w.client.Ping(context.Background(), status.PingRequest{Remote: "192.0.2.1", Count: count}, func(*status.Probe) error {
			lines++
			return nil
		})
		if err == nil || err.Error() != want || lines != count {
			t.Errorf("after %d lines: %d lines, error %q", count, lines, err)
		}
	}
	if err := w.client.Traceroute(context.Background(), status.TraceRequest{Remote: "::1"}, func(*status.Probe) error { return nil }); err == nil {
		t.Error("a failing traceroute has no error")
	}
}

func TestClosingTheServerEndsStreams(t *testing.T) {
	node := newFakeNode()
	l, err := Listen(filepath.Join(t.TempDir(), "c.sock"), "")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Config{Node: node}, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	node.live <- status.Event{Message: "hello"}
	client := NewClient(l.Addr().String())
	defer client.Close()
	err = client.FollowEvents(context.Background(), time.Time{}, func(*status.Event) error { return s.Close() })
	if err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

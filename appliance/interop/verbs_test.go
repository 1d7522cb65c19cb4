//go:build interop

package interop

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tandem/appliance/status"
)

// testVerbs asks the node everything that can be asked, once for people and
// once for scripts.
func testVerbs(t *testing.T, s *single) {
	s.server.serveHTTP(t, "198.51.100.1:81", "the server")
	if got, err := s.client.curl("http://198.51.100.1:81/"); err != nil {
		t.Fatal(got, err)
	}
	for words, part := range map[string]string{
		"status":                          "fw-single",
		"carp status":                     "",
		"states list tcp :81":             "192.168.1.50",
		"states count":                    "",
		"states top":                      "",
		"rules list --all":                "LAN to anywhere",
		"nat list":                        "198.51.100.210",
		"arp":                             "192.168.1.50",
		"routes":                          "198.51.100.1",
		"interfaces":                      "lan0",
		"log":                             "fw-single starts",
		"ping -n 2 -i 100ms 198.51.100.1": "198.51.100.1",
		"ping -n 2 -i 100ms fd01::50":     "fd01::50",
		"ping -n 1 --source 192.168.1.1 192.168.1.50": "192.168.1.50",
		"traceroute -q 1 198.51.100.1":                "198.51.100.1",
	} {
		text, err := s.node.verb(t, words)
		if err != nil || text == "" || !strings.Contains(text, part) {
			t.Errorf("appliance %s: no %q, %v\n%s", words, part, err, text)
		}
		document, err := s.node.verb(t, words+" --json")
		if err != nil || !json.Valid([]byte(document)) || !strings.Contains(document, part) {
			t.Errorf("appliance %s --json: no %q, %v\n%s", words, part, err, document)
		}
	}
	var list []status.State
	s.node.ask(t, "states list tcp :81", &list)
	if len(list) != 1 || list[0].Source[:12] != "192.168.1.50" || !strings.HasPrefix(list[0].TranslatedSource, "198.51.100.2:") || list[0].Origin != "local" {
		t.Errorf("states of one connection: %+v", list)
	}
	if out, err := s.node.verb(t, "ping -n 1 -W 500ms 198.51.100.99"); err == nil {
		t.Errorf("a host that is not there answered: %s", out)
	}
	testCaptureVerb(t, s)
}

// testCaptureVerb lets the node write what passes, and tshark read it.
func testCaptureVerb(t *testing.T, s *single) {
	file := filepath.Join(t.TempDir(), "wan.pcapng")
	ping := s.client.ping(t, "198.51.100.1", pingEvery)
	s.node.mustVerb(t, "capture wan -n 10 -w "+file+" icmp")
	ping.finish()
	out, err := exec.Command("tshark", "-r", file, "-T", "fields", "-E", "separator=|", "-e", "ip.src", "-e", "ip.dst", "-e", "icmp.checksum.status", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 10 {
		t.Errorf("%d frames captured, want 10:\n%s", len(lines), out)
	}
	for _, line := range lines {
		if line != "198.51.100.2|198.51.100.1|1|" && line != "198.51.100.1|198.51.100.2|1|" {
			t.Errorf("captured on WAN: %s", line)
		}
	}
}

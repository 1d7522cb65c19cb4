//go:build interop

package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// tools are the programs that the tests run.
var tools = []string{"ip", "bridge", "nsenter", "ping", "traceroute", "tracepath", "curl", "tcpdump", "tshark", "nmap", "ucarp", "arping"}

func TestMain(m *testing.M) {
	sweep()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		removeNamespaces()
		os.Exit(1)
	}()
	code := m.Run()
	removeNamespaces()
	os.Exit(code)
}

// built is the binary, made once for all tests, or the one that the
// environment names.
var built = sync.OnceValues(func() (string, error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("root is needed to make network namespaces")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("a tool is missing: %w", err)
		}
	}
	if path := os.Getenv("INTEROP_APPLIANCE"); path != "" {
		return path, nil
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "tmp", "appliance")
	cmd := exec.Command("go", "build", "-o", path, "./appliance")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return path, nil
})

func executable(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// appliance runs a verb of the binary to its end and returns what it printed
// on its standard output. The error holds its complaints; exit status 1 may be
// an answer, which is the caller's to say.
func appliance(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.Command(executable(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaints.Bytes()))
	}
	return strings.TrimSpace(out.String()), err
}

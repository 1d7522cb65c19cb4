package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tandem/appliance/config"
	"tandem/appliance/control"
	"tandem/appliance/plan"
)

// Where the configuration is looked for, in this order.
const (
	fileHere = "appliance.toml"
	fileEtc  = "/etc/appliance.toml"
)

// socketVariable names the control socket where --control does not.
const socketVariable = "APPLIANCE_CONTROL"

// configFile is the configuration to use: -c, else the first that is there.
func (a *app) configFile() (string, error) {
	if a.file != "" {
		return a.file, nil
	}
	for _, name := range []string{fileHere, fileEtc} {
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("there is no ./%s and no %s; name the configuration with -c", fileHere, fileEtc)
}

// loaded is a configuration file that was read.
type loaded struct {
	name     string
	doc      *config.Document // nil if the text is no TOML
	plan     *plan.Plan       // nil if a problem is an error
	problems []config.Problem
	files    []string // every file that was read
	denied   bool     // the rights were missing for one of them
}

// load reads a configuration and makes a plan of it. The error is about
// reading; what is wrong in the file is in the problems.
func load(name string) (*loaded, error) {
	l := &loaded{name: name}
	text, err := l.read(name)
	if err != nil {
		return nil, err // It names the file.
	}
	l.doc, l.problems = config.Load(config.Config{Name: name, Text: text, Read: l.read, Exposed: exposed})
	if l.doc == nil || config.HasErrors(l.problems) {
		return l, nil
	}
	p, more := plan.Build(l.doc)
	l.plan, l.problems = p, config.SortProblems(append(l.problems, more...))
	return l, nil
}

func (l *loaded) read(name string) ([]byte, error) {
	l.files = append(l.files, name)
	b, err := os.ReadFile(name)
	l.denied = l.denied || errors.Is(err, fs.ErrPermission)
	if pe, ok := errors.AsType[*fs.PathError](err); ok && name != l.name {
		return nil, pe.Err // The problem that comes of it names the file.
	}
	return b, err
}

// exposed says whether others than its owner may read a file.
func exposed(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().Perm()&0o077 != 0
}

// controlPath is where a configuration's node listens.
func controlPath(file string, doc *config.Document) string { return beside(file, doc.System.Control) }

// beside resolves a path of a configuration, which starts at its folder.
func beside(file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// controlSocket is the node to ask: --control, the environment, the
// configuration as far as it can be read, the default.
func (a *app) controlSocket() string {
	if a.socket != "" {
		return a.socket
	}
	if path := a.env.Getenv(socketVariable); path != "" {
		return path
	}
	name, err := a.configFile()
	if err != nil {
		return control.DefaultSocket
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return control.DefaultSocket
	}
	// Faults elsewhere in the file do not hide the node that runs with it.
	doc, _ := config.Load(config.Config{Name: name, Text: text})
	if doc == nil || doc.System.Control == "" {
		return control.DefaultSocket
	}
	return controlPath(name, doc)
}

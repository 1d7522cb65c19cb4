package cli

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
)

// version is `version --json`.
type version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	System  string `json:"system"`

	built time.Time // of the commit, or of this release where the binary does not say
}

// release is when the code was last known to be new: no clock is right that
// says less.
func release() time.Time { return time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC) }

// thisVersion is what the tool chain wrote into the binary.
func thisVersion() version {
	v := version{Version: "devel", Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, built: release()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	changed := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			if at, err := time.Parse(time.RFC3339, s.Value); err == nil {
				v.built = at
			}
		case "vcs.modified":
			if s.Value == "true" {
				changed = " with changes"
			}
		}
	}
	if v.Commit != "" {
		v.Commit += changed
	}
	return v
}

func (a *app) versionVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "version", Short: "What this binary is", Args: cobra.NoArgs,
		RunE: a.does(func(context.Context, []string) error {
			v := thisVersion()
			if a.json {
				return a.document(v)
			}
			a.out.printf("%s %s (%s, %s)\n", program, v.Version, v.Go, v.System)
			if v.Commit != "" {
				a.out.printf("commit %s\n", v.Commit)
			}
			return nil
		}),
	})
}

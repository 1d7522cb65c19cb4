package cli

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"tandem/appliance/config"
	"tandem/appliance/node"
	"tandem/appliance/status"
)

// runner is a node that runs with a file.
type runner struct {
	name  string
	log   *slog.Logger
	level slog.LevelVar
	node  *node.Node

	mu      sync.Mutex // one change at a time
	running *loaded
}

// reload reads the file again and gives the node what is in it. On a fault the
// node is as it was.
func (r *runner) reload(context.Context) status.Reload {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := status.Reload{Changed: []string{}, Problems: []string{}}
	l, err := load(r.name)
	if err == nil {
		if l.denied {
			out.Problems = append(out.Problems, r.name+": since its start the node sees only the folders that its configuration named then; restart it to let it read others")
		}
		for _, p := range l.problems {
			out.Problems = append(out.Problems, p.String())
		}
		if l.plan != nil {
			var changed []string
			changed, err = r.node.Apply(l.plan)
			out.Changed, out.Applied = append(out.Changed, changed...), err == nil
		}
	}
	if err != nil {
		out.Problems = append(out.Problems, fmt.Sprintf("%s: %v", r.name, err))
	}
	if !out.Applied {
		r.log.Error("the configuration is not applied, the node goes on as it was", "source", "config", "file", r.name, "problems", out.Problems)
		return out
	}
	out.Changed = append(out.Changed, atNextStart(r.running.doc, l.doc)...)
	r.running = l
	r.setLevel(l.doc)
	r.log.Info("configuration applied", "source", "config", "file", r.name, "changed", out.Changed, "problems", out.Problems)
	return out
}

// atNextStart says which changes a running node cannot make.
func atNextStart(before, after *config.Document) []string {
	var out []string
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"system.state_dir", before.System.StateDir == after.System.StateDir},
		{"system.control", before.System.Control == after.System.Control},
		{"system.control_group", before.System.ControlGroup == after.System.ControlGroup},
	} {
		if !k.same {
			out = append(out, k.key+": from the next start on")
		}
	}
	return out
}

// logger writes to stderr: text for a person, JSON for everything else.
func (a *app) logger(level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if a.env.Terminal(a.env.Stderr) {
		return slog.New(slog.NewTextHandler(a.env.Stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(a.env.Stderr, opts))
}

func (r *runner) setLevel(doc *config.Document) { r.level.Set(levelOf(string(doc.System.LogLevel))) }

// levelOf reads the level of a line or of the configuration.
func levelOf(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// sinkTo hands the node's lines to a logger, with the time they were written.
func sinkTo(log *slog.Logger) func(status.Event) {
	return func(e status.Event) {
		ctx, level := context.Background(), levelOf(e.Level)
		if !log.Enabled(ctx, level) {
			return
		}
		record := slog.NewRecord(e.Time, level, e.Message, 0)
		record.AddAttrs(slog.String("source", e.Source))
		for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
			record.AddAttrs(slog.String(key, e.Fields[key]))
		}
		_ = log.Handler().Handle(ctx, record) // There is no other place to complain.
	}
}

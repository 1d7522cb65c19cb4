// Package examples carries the example configurations, and the lab's topologies
// of them, inside the binary, so that the lab runs the very files that a person
// reads. It holds no code.
package examples

import "embed"

// Files are the examples and the secrets they name.
//
//go:embed *.toml carp.password lab/*.toml
var Files embed.FS

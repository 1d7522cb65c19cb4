// Package examples carries the example configurations inside the binary, so
// that the lab runs the very files that a person reads. It holds no code.
package examples

import "embed"

// Files are the example configurations and the secrets they name.
//
//go:embed *.toml carp.password
var Files embed.FS

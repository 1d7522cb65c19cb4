// Package config reads appliance.toml into a [Document] that is right by
// construction, and lists everything that is wrong with it at once.
//
// The file's specification is docs/configuration.md; its syntax is TOML 1.0.
// [Load] goes through five steps, one file each: parse (the TOML library),
// index.go (at which line stands which key), decode.go (raw values into the
// typed document, unknown keys, required keys), unbuilt.go (keys whose feature
// this build does not have are refused by name), check_*.go (faults between
// keys, and warnings).
//
// The package opens no file: the text comes in, and the files that hold
// secrets come through [Config.Read]. It does not know how the firewall works
// inside; appliance/plan turns a Document into what the parts understand.
//
// Invariants: a Document is only handed out together with its problems, and if
// none of them is an error then every reference in it (interface, alias,
// gateway, vhid) resolves, every value is in range, and every "auto" is
// decided. The same text gives the same problems in the same order.
package config

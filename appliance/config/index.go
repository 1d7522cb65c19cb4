package config

// index knows at which line each key of the text stands.
type index struct {
	lines map[string]int
}

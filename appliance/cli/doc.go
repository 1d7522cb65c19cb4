// Package cli is the command line of the appliance: the verbs, each a
// question to the control socket of a running node or a thing done with the
// configuration file.
//
// To stdout goes the answer and nothing else, for people in aligned columns,
// or as JSON with --json; faults go to stderr. Colours appear only on a
// terminal and never with NO_COLOR. The exit status is 0 for done, 1 for what
// failed or is unhealthy, 2 for a command line that is wrong, 3 where no node
// answers.
//
// The package judges nothing that a node says. Only `run` and `lab` start
// something; only `run` changes the process it runs in.
package cli

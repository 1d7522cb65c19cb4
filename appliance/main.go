// Command appliance is a firewall and router that two machines can share. It
// hands its arguments to the command line (package cli) and holds no logic; the
// rules of the repository are held by its tests.
package main

import (
	"os"

	"tandem/appliance/cli"
)

func main() { os.Exit(cli.Main()) }

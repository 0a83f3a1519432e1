// Command viarule makes packets leave by the right way, and proves it.
package main

import (
	"os"
	"runtime/debug"

	"github.com/viarule/viarule/internal/cli"
)

func main() {
	// A command lives for a moment: with 100,000 routes in hand, collecting less
	// often saves a tenth of its time and costs some megabytes.
	debug.SetGCPercent(400)
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

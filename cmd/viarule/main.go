// Command viarule makes packets leave by the right way, and proves it.
package main

import (
	"os"

	"github.com/viarule/viarule/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

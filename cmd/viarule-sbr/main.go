// Command viarule-sbr is a CNI meta plugin that routes what a pod sends from an
// interface's address by that interface. Called as sbr it is a drop-in for the
// reference plugin of that name.
package main

import (
	"os"
	"path/filepath"

	"github.com/viarule/viarule/internal/cni/sbr"
	_ "github.com/viarule/viarule/internal/shortlife" // before everything else
)

// version is set by the linker.
var version = "devel"

// Everything is done here, where the runtime keeps the goroutine on one thread by itself:
// see kernel.Pinned.
func init() {
	os.Exit(sbr.Main(filepath.Base(os.Args[0]), version))
}

func main() {}

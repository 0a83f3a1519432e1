// Command viarule-ptp is a CNI main plugin: it joins a pod to its host by a veth pair and
// plain routes, without a bridge.
package main

import (
	"os"

	"github.com/viarule/viarule/internal/cni/ptp"
	_ "github.com/viarule/viarule/internal/shortlife" // before everything else
)

// version is set by the linker.
var version = "devel"

// Everything is done here, where the runtime keeps the goroutine on one thread by itself:
// see kernel.Pinned.
func init() {
	os.Exit(ptp.Main(version))
}

func main() {}

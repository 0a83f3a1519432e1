// Command viarule-ptp is a CNI main plugin: it joins a pod to its host by a veth pair and
// plain routes, without a bridge.
package main

import (
	"os"

	"github.com/viarule/viarule/internal/cni/ptp"
)

// version is set by the linker.
var version = "devel"

func main() {
	os.Exit(ptp.Main(version))
}

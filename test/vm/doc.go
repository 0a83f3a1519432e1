// Package vm runs the namespace tests a second time, under Debian's kernel in
// QEMU: a second kernel version, and one that has VLAN, VRF, dummy and ipvlan
// links. boot.sh starts the machine; the test here builds the test programs,
// puts them into it and reports each of their tests as its own.
package vm

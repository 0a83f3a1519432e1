// Package ipam tests viarule's address management beside the reference's: the same calls
// to both programs give the same addresses, files and errors, also where the two take
// turns on one network, run at once, or are killed.
package ipam

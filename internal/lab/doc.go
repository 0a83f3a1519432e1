// Package lab builds small networks out of network namespaces on one machine,
// sends real packets through them and says what came of it. One YAML file names
// the hosts, the links between them, what viarule shall do on each host, and the
// checks: who reaches whom, seen as whom, by which link in and by which link out.
//
// What it promises:
//   - A lab touches nothing but namespaces of its own. They are called
//     vlab-LAB-HOST below /run/netns; those that somebody else made are neither
//     used nor removed. A state file below /run/viarule/lab holds the cookie of
//     every namespace that was made, written so that Down also works after an Up
//     that was killed on its way.
//   - A file is hostile until parsed: names go into no shell and no path but the
//     ones above, counts are bounded, sysctls are those of net/, unknown keys are
//     errors with their line.
//   - A check is made of real traffic. The way of its packets is what packet
//     sockets on the hosts saw, so a check that expects silence can still say
//     that the request came in and by which link the answer went astray.
//   - Everything is bounded in time, and a context that ends stops it; Test and
//     a failed Up then remove what they made.
//
// Errors: InputError for what is wrong in the file (exit status 2), ChecksError
// for checks that did not pass (3), everything else is a failure (1).
package lab

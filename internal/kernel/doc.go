// Package kernel reads and writes the routing of one network namespace: links,
// addresses, rules, routes and next hop objects over rtnetlink, viarule's tables of
// nftables, sysctls below /proc/sys/net, and the TCP sockets over sock_diag; and
// what else decides about packets as far as where it is (Opaque: bpf(2), traffic
// control, NETLINK_XFRM). With nothing but Open it reads; only Apply and the link
// writers change anything.
//
// # What is promised
//
// A Snapshot loses nothing. An attribute for which package netstate has no field
// is kept as the kernel gave it (see Unknown below), compares, and is sent back on
// write. The only things left out are those that change by themselves; each is
// listed with its reason where it is decoded (the ignored* constants).
//
// A dump that the kernel marks as interrupted (NLM_F_DUMP_INTR) is done again,
// and after tornRetries times is ErrTornDump: an incomplete list never looks like
// a missing route. Rules and IPv6 routes, whose torn dumps no kernel marks, are
// read while a second socket listens for changes: see watch.go. A host that
// changes thousands of them all the time may thus have no snapshot to give.
//
// What a kernel does not know is *FeatureError, which is ErrNotSupported. Nothing
// here ever looks at the wording of a message. Rule attributes newer than Linux
// 5.10 are probed before their first use, since an old kernel ignores them in
// silence and would make a rule that selects more than it should; everything else
// is probed only after a write failed. 5.10 is the oldest kernel that this is
// written for.
//
// # Unknown
//
// An Unknown string is a run of netlink attributes, each with its header and
// padding, in the kernel's byte order, sorted by type. Header bits that have no
// field go there too, as a pseudo attribute of type 16383, which no kernel uses.
//
// # The socket
//
// The kernel answers every request on rtnetlink before sendmsg returns, so a
// missing answer is a lost one, never a late one. So the sockets block, and are
// not tied to Go's poller: that would cost a CNI program, which lives for two
// milliseconds, a tenth of its time. Messages are plain bytes; a value for each
// costs 100,000 routes more time than the kernel needs for them.
//
// A Conn belongs to the namespace it was opened for, whatever thread uses it
// later. It is safe for concurrent use; requests run one after the other.
package kernel

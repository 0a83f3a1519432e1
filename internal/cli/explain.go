package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/snapshot"
	"github.com/viarule/viarule/internal/spec"
)

func (a *app) explainCommand() *cobra.Command {
	var q explain.Question
	var opt explain.Options
	var file, batch string
	var draw drawings
	var expect bool
	var files fileFlags
	c := &cobra.Command{
		Use:     "explain --to ADDRESS [--from ADDRESS] [--iif LINK]",
		GroupID: "look",
		Short:   "Say which way a packet goes, and which rule, table and route decide",
		Long: `Works out what becomes of a packet, without sending any: every rule that the
kernel would try, why it matches or not, the route, the check of the source address
(rp_filter), and one closing sentence. With --reply the way of the answer too.

Without --iif the packet is made on this host. Filters and translations of others
(iptables, nftables, IPVS) are named and not looked at; what cannot be known (XDP, tc,
IPsec) makes the verdict "unknown", and says so.

With --batch, lines of JSON come in and go out, one a packet, in order: the keys are
those of the flags (from, to, iif, oif, ipproto, sport, dport, icmptype, fwmark, uid,
tos). The steps are left out unless -v is given.

--dot draws the rules and tables as a decision graph with the packet's way, for
Graphviz; rules that say nothing about it are folded. --html writes a page that needs
no other files. The answer is printed as well, unless one of them goes to - .`,
		Example: `  viarule explain --from 203.0.113.9 --to 1.2.3.4 --ipproto tcp --dport 80 --iif eth0.100 --reply
  viarule explain --expect                    # spec.expect of all applied objects; status 3 where one fails
  viarule explain --to 2001:db8::1 --uid 1000
  viarule explain --to 192.0.2.1 --dot - | dot -Tsvg > way.svg
  viarule explain --from 203.0.113.9 --to 1.2.3.4 --iif eth1 --reply --html answer.html
  viarule snapshot > node7.txt && viarule explain --snapshot node7.txt --to 192.0.2.1
  echo '{"to":"192.0.2.1","ipproto":"tcp","dport":443}' | viarule explain --batch -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := draw.check(expect || batch != ""); err != nil {
				return err
			}
			if expect {
				return a.explainExpect(cmd, files, args)
			}
			if len(args) > 0 || len(files.names) > 0 {
				return usageError{fmt.Errorf("a packet is said by flags, and files are for --expect; see %s --help", cmd.CommandPath())}
			}
			if batch == "" && q.To == "" {
				return usageError{fmt.Errorf("which packet? give --to ADDRESS, or --batch FILE; see %s --help", cmd.CommandPath())}
			}
			e, err := a.explainer(cmd, file)
			if err != nil {
				return err
			}
			if batch != "" {
				return a.explainBatch(e, batch, opt)
			}
			opt.Steps = true
			draw.from = a.madeFrom(file)
			return a.explainOne(e, &q, opt, draw)
		},
	}
	f := c.Flags()
	f.StringVar(&q.From, "from", "", "source `address`; without it the host chooses one")
	f.StringVar(&q.To, "to", "", "destination `address`")
	f.StringVar(&q.IIF, "iif", "", "`link` by which the packet comes in; without it, it is made here")
	f.StringVar(&q.OIF, "oif", "", "`link` to which its socket is bound")
	f.StringVar(&q.IPProto, "ipproto", "", "`protocol`: tcp, udp, icmp, ... or a number")
	f.StringVar(&q.SPort, "sport", "", "source `port`")
	f.StringVar(&q.DPort, "dport", "", "destination `port`")
	f.StringVar(&q.ICMPType, "icmp-type", "", "`type` of an ICMP message")
	f.StringVar(&q.FwMark, "fwmark", "", "`mark` that the packet has, or its socket gives it")
	f.StringVar(&q.UID, "uid", "", "`user id` of the socket's owner")
	f.StringVar(&q.TOS, "tos", "", "DS `field` (TOS) of the packet")
	f.StringVar(&q.TTL, "ttl", "", "`hops` that the packet has left when it comes in")
	f.BoolVar(&opt.Reply, "reply", false, "the way of the answer too")
	f.StringVar(&file, "snapshot", "", "answer from a `file` that viarule snapshot wrote; - is standard input")
	f.StringVar(&batch, "batch", "", "a `file` with a packet a line, as JSON; - is standard input")
	f.BoolVar(&expect, "expect", false, "check spec.expect of the applied objects, or of those of --file; status 3 where one does not hold")
	draw.add(c)
	files.add(c)
	for _, name := range []string{"iif", "oif"} {
		completeNames(c, name, linkNames)
	}
	completeNames(c, "ipproto", func() []string { return []string{"tcp", "udp", "icmp", "ipv6-icmp", "sctp"} })
	return c
}

// explainExpect checks what objects expect.
func (a *app) explainExpect(cmd *cobra.Command, files fileFlags, args []string) error {
	var objects []spec.Object
	if len(files.names) > 0 {
		var err error
		if objects, err = a.load(cmd, files, args); err != nil {
			return err
		}
	}
	return a.withHost(func(h *host.Host) error {
		list, err := h.Expectations(cmd.Context(), objects)
		if err != nil {
			return err
		}
		failed := 0
		for i := range list {
			if !list[i].Holds {
				failed++
			}
		}
		if a.structured() {
			err = a.print(list)
		} else {
			for i := range list {
				fmt.Fprintln(a.out, list[i])
			}
			fmt.Fprintf(a.out, "%d of %d hold\n", len(list)-failed, len(list))
		}
		if err == nil && failed > 0 {
			return errNo
		}
		return err
	})
}

// explainer makes a host or a snapshot ready for questions.
func (a *app) explainer(cmd *cobra.Command, file string) (e *explain.Explainer, err error) {
	if file == "" {
		err = a.withHost(func(h *host.Host) error {
			s, err := h.Snapshot(cmd.Context())
			if err == nil {
				e = explain.New(s)
			}
			return err
		})
		return e, err
	}
	s, err := a.readSnapshot(file)
	if err != nil {
		return nil, err
	}
	return explain.New(s), nil
}

// readSnapshot reads a file that may be a stranger's.
func (a *app) readSnapshot(file string) (*snapshot.Snapshot, error) {
	r, closer, err := a.open(file)
	if err != nil {
		return nil, err
	}
	defer closer()
	s, err := snapshot.Read(r)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", file, err)}
	}
	return s, nil
}

// open opens a file that the user named; - is standard input.
func (a *app) open(name string) (io.Reader, func(), error) {
	if name == "-" {
		return a.in, func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return f, func() { _ = f.Close() }, nil // it was only read
}

// explainOne answers for one packet: as text or JSON, and to the files of draw.
func (a *app) explainOne(e *explain.Explainer, q *explain.Question, opt explain.Options, draw drawings) error {
	p, err := q.Packet()
	if err != nil {
		return usageError{err}
	}
	answer, err := e.Explain(p, opt)
	if err != nil {
		return usageError{err}
	}
	if err := a.draw(e, answer, draw); err != nil {
		return err
	}
	switch {
	case draw.dot == "-" || draw.html == "-":
		return nil
	case a.structured():
		return a.print(answer)
	}
	return explain.WriteText(a.out, answer, a.color(a.out))
}

// linkNames are the links of the caller's namespace, for completion.
func linkNames() []string {
	list, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return nil
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name()
	}
	return names
}

// Command bench measures viarule side by side with what people use today: `ip
// -batch`, github.com/vishvananda/netlink, the plain list of rules and the
// reference CNI plugins. All ways of one measurement alternate within each round,
// and what counts are the ratios of medians of one run: machines differ, and this
// one is noisy.
//
// It needs root. Traffic exists only in network namespaces that it makes and
// that end with it; /run, /var/lib and /etc/iproute2 are private to it.
//
//	make bench
//	cd bench && go run . -viarule ../bin/viarule -only routes,forward -rounds 3
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// bench is one run of the program.
type bench struct {
	ctx        context.Context
	viarule    string
	viaruleSbr string
	viarulePtp string
	rounds     int
	dir        string // for the files that programs read
	report     []measurement
}

// measurement is one line of the report: a way of doing something, and the ratio
// to the reference way of the same measurement.
type measurement struct {
	Of     string  `json:"of"`
	Way    string  `json:"way"`
	Median float64 `json:"median"`
	Unit   string  `json:"unit"`
	CPU    float64 `json:"cpu,omitempty"` // median of processor time, in Unit
	Ratio  float64 `json:"ratio"`         // of medians of pairs: this way / reference
	Ref    string  `json:"reference"`
	Bar    string  `json:"bar,omitempty"`
	Met    *bool   `json:"met,omitempty"`
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == agentArg {
		if err := agent(); err != nil {
			fmt.Fprintln(os.Stderr, "bench, in a pod:", err)
			os.Exit(1)
		}
		return
	}
	viarule := flag.String("viarule", "../bin/viarule", "the program to measure")
	viaruleSbr := flag.String("viarule-sbr", "../bin/viarule-sbr", "the CNI plugin to measure")
	viarulePtp := flag.String("viarule-ptp", "../bin/viarule-ptp", "the CNI plugin to measure")
	rounds := flag.Int("rounds", 5, "rounds; in each all ways of a measurement take their turn")
	only := flag.String("only", "", "measurements, by comma: "+names())
	out := flag.String("json", "results.json", "where the results go as JSON; empty: nowhere")
	flag.Parse()
	if err := run(&bench{viarule: *viarule, viaruleSbr: *viaruleSbr, viarulePtp: *viarulePtp, rounds: *rounds}, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measurements in the order in which they run.
var measurements = []struct {
	name string
	run  func(*bench) error
}{
	{"routes", (*bench).routes},
	{"policies", (*bench).policies},
	{"unchanged", (*bench).unchanged},
	{"growth", (*bench).growth},
	{"forward", (*bench).forward},
	{"external", (*bench).external},
	{"explain", (*bench).explain},
	{"lookup", (*bench).lookup},
	{"sbr", (*bench).sbr},
	{"ptp", (*bench).ptp},
	{"pods", (*bench).pods},
}

func names() string {
	var n []string
	for _, m := range measurements {
		n = append(n, m.name)
	}
	return strings.Join(n, ", ")
}

func run(b *bench, only, out string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root, to make network namespaces")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "viarule-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := private(); err != nil {
		return err
	}
	b.ctx, b.dir = ctx, dir
	wanted := strings.Split(only, ",")
	for _, m := range measurements {
		if only != "" && !slices.Contains(wanted, m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", m.name)
		if err := m.run(b); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	b.print()
	if out == "" {
		return nil
	}
	data, err := json.MarshalIndent(b.report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644)
}

func (b *bench) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "of\tway\tmedian\tcpu\tratio\tto\tbar\t")
	for _, m := range b.report {
		met := ""
		if m.Met != nil {
			met = map[bool]string{true: "met", false: "NOT MET"}[*m.Met]
		}
		cpu := ""
		if m.CPU > 0 {
			cpu = fmt.Sprintf("%.4g", m.CPU)
		}
		fmt.Fprintf(w, "%s\t%s\t%.4g %s\t%s\t%.3f\t%s\t%s\t%s\n", m.Of, m.Way, m.Median, m.Unit, cpu, m.Ratio, m.Ref, m.Bar, met)
	}
	w.Flush()
}

// bar says what a ratio shall be: at most, or, where least is set, at least.
type bar struct {
	ratio float64
	least bool
	what  string
}

func atMost(r float64) *bar { return &bar{r, false, fmt.Sprintf("at most %g", r)} }

// fasterBy is the bar `n times as fast as the reference`.
func fasterBy(n float64) *bar { return &bar{1 / n, false, fmt.Sprintf("%g x as fast", n)} }

// way is one way to do what is measured.
type way struct {
	name string
	bar  *bar
	run  func() (float64, error)
}

// compare runs all ways in turn, round by round, and reports them; the first is
// the reference.
func (b *bench) compare(of, unit string, rounds int, ways []way) error {
	values := make([][]float64, len(ways))
	for round := range rounds {
		for i, w := range ways {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			v, err := w.run()
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", w.name, round+1, err)
			}
			values[i] = append(values[i], v)
		}
	}
	for i, w := range ways {
		ratios := make([]float64, rounds)
		for r := range rounds {
			ratios[r] = values[i][r] / values[0][r]
		}
		b.add(of, unit, w.name, median(values[i]), median(ratios), ways[0].name, w.bar)
	}
	return nil
}

func (b *bench) add(of, unit, way string, med, ratio float64, ref string, limit *bar) {
	m := measurement{Of: of, Way: way, Median: med, Unit: unit, Ratio: ratio, Ref: ref}
	if limit != nil {
		met := ratio <= limit.ratio
		if limit.least {
			met = ratio >= limit.ratio
		}
		m.Bar, m.Met = limit.what, &met
	}
	b.report = append(b.report, m)
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

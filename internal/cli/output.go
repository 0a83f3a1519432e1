package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// structured says whether the user asked for JSON or YAML.
func (a *app) structured() bool { return a.output != "text" }

// print writes v as JSON or YAML. YAML is made from the JSON, so that both have
// the same names in the same order.
func (a *app) print(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print the answer as JSON: %w", err)
	}
	if a.output == "json" {
		_, err = fmt.Fprintln(a.out, string(data))
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil {
		return fmt.Errorf("print the answer as YAML: %w", err)
	}
	block(&node)
	enc := yaml.NewEncoder(a.out)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return fmt.Errorf("print the answer as YAML: %w", err)
	}
	return enc.Close()
}

// block turns JSON's flow style and quotes into YAML's own.
func block(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		block(c)
	}
}

// color says whether w is a terminal that shall have colours.
func (a *app) color(w io.Writer) bool {
	if a.noColor || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return isTerminal(w)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// completeNames completes the values of a flag from a list.
func completeNames(c *cobra.Command, flag string, list func() []string) {
	err := c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return list(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // no such flag: a mistake in the program
	}
}

func netnsNames() []string {
	paths, _ := filepath.Glob("/run/netns/*") // the pattern is well formed: no error
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	return paths
}

package plan

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/viarule/viarule/internal/netstate"
)

// The first and the last line of a checkpoint's text. Undo removes what a
// checkpoint does not name, so one that was cut short must not be read. Version 1
// is of a viarule that made no links and no tables of nftables; it reads as a
// checkpoint without any. That viarule refuses version 2.
const (
	checkpointHead  = "checkpoint 2"
	checkpointHead1 = "checkpoint 1"
	checkpointTail  = "end"
)

// restored begins the lines of Checkpoint.Restored.
const restored = "restored "

// MarshalText writes the checkpoint, an object a line in netstate's text form,
// between a first and a last line.
func (cp Checkpoint) MarshalText() ([]byte, error) {
	b := []byte(checkpointHead + "\n")
	for _, v := range cp.Sysctls {
		b, _ = v.AppendText(b)
		b = append(b, '\n')
	}
	for _, v := range cp.Restored {
		b, _ = v.AppendText(append(b, restored...))
		b = append(b, '\n')
	}
	for _, a := range cp.Accepts {
		b, _ = a.AppendText(b)
		b = append(b, '\n')
	}
	s := netstate.State{Links: cp.Links, Rules: cp.Rules, Routes: cp.Routes}
	if cp.Nft != nil {
		s.Nft = []netstate.NftTable{*cp.Nft}
	}
	b, _ = s.AppendText(b)
	return append(b, checkpointTail+"\n"...), nil
}

// UnmarshalText reads what MarshalText writes. Text that is not whole is refused.
func (cp *Checkpoint) UnmarshalText(text []byte) error {
	c, err := parseCheckpoint(text)
	if err != nil {
		return fmt.Errorf("read a checkpoint: %w", err)
	}
	*cp = c
	return nil
}

func parseCheckpoint(text []byte) (Checkpoint, error) {
	var cp Checkpoint
	head, body, _ := bytes.Cut(text, []byte("\n"))
	if h := string(head); h != checkpointHead && h != checkpointHead1 {
		return cp, errors.New("it does not begin with `" + checkpointHead + "`")
	}
	body, ok := bytes.CutSuffix(body, []byte(checkpointTail+"\n"))
	if !ok || len(body) > 0 && body[len(body)-1] != '\n' {
		return cp, errors.New("it does not end with `" + checkpointTail + "`: it was not written to its end")
	}
	for {
		list, at := &cp.Sysctls, body
		if after, ok := bytes.CutPrefix(body, []byte(restored)); ok {
			list, at = &cp.Restored, after
		}
		if !bytes.HasPrefix(at, []byte("sysctl ")) {
			break
		}
		line, rest, _ := bytes.Cut(at, []byte("\n"))
		v, err := netstate.ParseSysctl(string(line))
		if err != nil {
			return cp, err
		}
		*list, body = append(*list, v), rest
	}
	for bytes.HasPrefix(body, []byte("accept ")) {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		a, err := netstate.ParseAccept(string(line))
		if err != nil {
			return cp, err
		}
		cp.Accepts, body = append(cp.Accepts, a), rest
	}
	s, err := netstate.ParseState(string(body))
	if err != nil {
		return cp, err
	}
	if len(s.Addrs)+len(s.Nexthops)+len(s.Forward) > 0 || len(s.Nft) > 1 {
		return cp, errors.New("it names objects that no plan changes")
	}
	cp.Links, cp.Rules, cp.Routes = s.Links, s.Rules, s.Routes
	if len(s.Nft) == 1 {
		cp.Nft = &s.Nft[0]
	}
	return cp, nil
}

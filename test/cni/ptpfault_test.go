package cni

import (
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestPtpFaults has each system call of an ADD that could matter fail, one after the other.
// Whatever fails, the ADD is a success, or nothing is left.
func TestPtpFaults(t *testing.T) {
	for _, fault := range []struct{ calls, errno string }{
		{"sendto,sendmsg", "ENOBUFS"}, {"recvfrom,recvmsg", "ENOMEM"}, {"socket,bind,setsockopt", "EMFILE"},
		{"setns", "EPERM"}, {"openat", "EMFILE"}, {"ioctl", "EPERM"}, {"write", "ENOSPC"}, {"pwrite64,renameat2,mkdirat", "ENOSPC"}, {"pread64,flock,fstat", "EIO"},
	} {
		t.Run(fault.calls, func(t *testing.T) {
			newPtpHost(t)
			c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], `, "ipMasq": true`)
			c.must(t) // the table of nftables stays
			c.as("DEL").must(t)
			before, failed := ptpState(t), 0
			for n := 1; ; n++ {
				out, faults, err := netnstest.Fault(t, c.exec(), fault.calls, fault.errno, n)
				call := strings.Join(faults, "; ")
				if call == "" {
					if err != nil {
						t.Fatalf("ADD without a fault: %v: %s", err, out)
					}
					break
				}
				if len(faults) > 1 {
					c.as("DEL").must(t) // it may have been undoing the first that failed
				} else if err == nil {
					c.as("DEL").must(t)
				} else {
					failed++
				}
				if err != nil && !strings.Contains(string(out), `"code":`) && !strings.Contains(call, "write(1,") {
					t.Errorf("%s: no error object: %v: %s", call, err, out)
				}
				if ptpLeaves(t); t.Failed() {
					t.Fatalf("after %s: %s", call, out)
				}
				if after := ptpState(t); after != before {
					t.Fatalf("after %s: %s\n%s\nbefore ADD:\n%s", call, out, after, before)
				}
				if links := netnstest.Exec(t, "ip", "-n", "pod", "-br", "link"); strings.Contains(links, "eth0") {
					t.Fatalf("after %s the pod has\n%s", call, links)
				}
			}
			t.Logf("failed %d times", failed)
			if failed == 0 {
				t.Error("no ADD failed: the instrument does not work")
			}
			c.as("DEL").must(t)
		})
	}
}

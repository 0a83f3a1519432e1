package networkd

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	on := Settings{ForeignRules: true, ForeignRoutes: true, ForeignNextHops: true}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  *Settings
	}{
		{"not running", map[string]string{"etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n"}, nil},
		{"not configured", map[string]string{"run/systemd/netif/links/2": ""}, &on},
		{"all kept", map[string]string{"run/systemd/netif/links/2": "", "etc/systemd/networkd.conf": `# comment
[Network]
ManageForeignRoutingPolicyRules = no
ManageForeignRoutes=off
ManageForeignNextHops=0
`}, &Settings{}},
		{"another section", map[string]string{"run/systemd/netif/links/2": "", "etc/systemd/networkd.conf": "[DHCPv4]\nManageForeignRoutes=no\n"}, &on},
		{"drop-ins, the last one counts", map[string]string{
			"run/systemd/netif/links/2":                  "",
			"usr/lib/systemd/networkd.conf.d/10-a.conf":  "[Network]\nManageForeignRoutes=no\n",
			"etc/systemd/networkd.conf.d/20-b.conf":      "[Network]\nManageForeignRoutes=yes\n",
			"run/systemd/networkd.conf.d/15-c.conf":      "[Network]\nManageForeignRoutingPolicyRules=no\n",
			"etc/systemd/networkd.conf":                  "[Network]\nManageForeignNextHops=no\n",
			"etc/systemd/networkd.conf.d/README":         "[Network]\nManageForeignNextHops=yes\n",
			"usr/lib/systemd/networkd.conf.d/30-d.conf":  "[Network]\nManageForeignNextHops=yes\n",
			"etc/systemd/networkd.conf.d/30-d.conf":      "[Network]\n",
			"usr/lib/systemd/networkd.conf":              "[Network]\nManageForeignNextHops=yes\n",
			"usr/lib/systemd/networkd.conf.d/05-ee.conf": "[Network]\nManageForeignRoutes=nonsense\n",
		}, &Settings{ForeignRoutes: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range c.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Read(root)
			if err != nil {
				t.Fatal(err)
			}
			if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

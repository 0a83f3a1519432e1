module github.com/viarule/viarule/bench

go 1.26.8

require (
	github.com/cilium/ebpf v0.22.0
	github.com/viarule/viarule v0.0.0
	github.com/vishvananda/netlink v1.3.1
	golang.org/x/sys v0.49.0
)

require (
	github.com/alexflint/go-filemutex v1.3.0 // indirect
	github.com/containernetworking/cni v1.3.1 // indirect
	github.com/containernetworking/plugins v1.10.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
)

replace github.com/viarule/viarule => ../

tool github.com/containernetworking/plugins/plugins/meta/sbr

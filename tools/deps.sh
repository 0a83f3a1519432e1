#!/usr/bin/env bash
# Installs the Debian packages that the demo and the tests call, where they are missing.
set -euo pipefail
need=()
while read -r program package; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || need+=("$package")
done <<'LIST'
ip iproute2
nft nftables
iptables iptables
qemu-system-x86_64 qemu-system-x86
busybox busybox-static
cpio cpio
strace strace
depmod kmod
ipvsadm ipvsadm
ping iputils-ping
dot graphviz
LIST
[ ${#need[@]} -eq 0 ] && exit 0
command -v apt-get >/dev/null || { echo "please install: ${need[*]}" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "not root: please install ${need[*]}" >&2; exit 1; }
echo "installing ${need[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null
apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null

#!/usr/bin/env bash
# Boots Debian's cloud kernel in QEMU (software emulation) and runs PAYLOAD/run
# in it as root: for links and features that the host's kernel lacks (VLAN, VRF,
# dummy, ipvlan, IPVS) and for a second kernel version. The guest is an initramfs
# of busybox, iproute2, nft and the network modules; PAYLOAD is its /payload.
#
# usage: boot.sh PAYLOAD
# Prints what the guest prints; the exit status is that of PAYLOAD/run.
# WORKDIR keeps the kernel between runs, MEM is in MiB, LIMIT in seconds.
set -euo pipefail
payload=$(readlink -f "$1")
work=${WORKDIR:-${XDG_CACHE_HOME:-$HOME/.cache}/viarule-vm}
mkdir -p "$work"

# The newest cloud kernel, unpacked and not installed. Lists of packages may be
# missing, or name a version that is gone: then they are fetched, and it is tried
# once more.
fetch_kernel() {
  local package fetch
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ && !found {print $2; found = 1}') || return 1
  [ -n "$package" ] || return 1
  fetch=$(mktemp -d "$work/fetch.XXXXXX")
  (cd "$fetch" && apt-get download "$package" >/dev/null 2>&1 && dpkg -x "$package"_*.deb kernel) && mv "$fetch/kernel" "$work/kernel"
  local status=$?
  rm -rf "$fetch"
  return $status
}
if [ ! -d "$work/kernel/boot" ]; then
  fetch_kernel || { apt-get update -qq >/dev/null && fetch_kernel; } || { echo "cannot fetch Debian's cloud kernel" >&2; exit 1; }
fi
release=$(ls "$work/kernel/lib/modules")

run=$(mktemp -d "$work/run.XXXXXX")
trap 'rm -rf "$run"' EXIT
root=$run/root
mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,tmp,run,etc/iproute2,root,var/lib,var/log} "$root/lib/modules/$release/kernel"
for part in net drivers/net lib crypto arch/x86/crypto; do
  mkdir -p "$root/lib/modules/$release/kernel/$part"
  cp -a "$work/kernel/lib/modules/$release/kernel/$part/." "$root/lib/modules/$release/kernel/$part/" 2>/dev/null || true
done
rm -rf "$root/lib/modules/$release/kernel/drivers/net/"{ethernet,wireless,usb,phy,hyperv,fddi,wwan} \
  "$root/lib/modules/$release/kernel/net/"{bluetooth,wireless,mac80211,nfc,ceph,sunrpc,rds,tipc,smc}
cp "$work/kernel/lib/modules/$release/"modules.{order,builtin}* "$root/lib/modules/$release/"
depmod -b "$root" "$release"

busybox=$(command -v busybox)
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
  case $applet in ip | busybox) ;; *) ln -sf busybox "$root/bin/$applet" ;; esac
done
for program in ip tc nft sysctl bash sed setpriv ipvsadm strace flock xtables-nft-multi xtables-legacy-multi; do # busybox has fewer options
  path=$(command -v "$program" || echo "/usr/sbin/$program")
  cp -L "$path" "$root/usr/bin/$program"
  { ldd "$path" 2>/dev/null || true; } | grep -o '/[^ )]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    [ -e "$root$library" ] || cp -L "$library" "$root$library"
  done
done
for name in ip{,6}tables; do
  for part in "" -save -restore; do
    ln -s "xtables-nft-multi" "$root/usr/bin/$name$part"
    for kind in nft legacy; do ln -s "xtables-$kind-multi" "$root/usr/bin/$name-$kind$part"; done
  done
done
for extensions in /usr/lib/*/xtables; do
  mkdir -p "$root$extensions"
  cp "$extensions"/lib*.so "$root$extensions/"
done
cp -a /etc/iproute2/. "$root/etc/iproute2/" 2>/dev/null || cp -a /usr/share/iproute2/. "$root/etc/iproute2/"
ln -sf /usr/bin/bash "$root/bin/bash"
ln -sf /bin/busybox "$root/sbin/modprobe"
ln -s /run "$root/var/run"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
cp -a "$payload" "$root/payload"

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
export PATH=/payload/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs run /run; mount -t tmpfs tmp /tmp
mkdir -p /run/netns /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 3 >/proc/sys/kernel/printk; echo /sbin/modprobe >/proc/sys/kernel/modprobe
for module in dummy veth bridge 8021q vrf ipvlan macvlan vxlan nf_tables ip_vs ip_vs_rr; do modprobe $module 2>/dev/null; done
ip link set lo up
echo VM-BEGIN; cd /payload && ./run 2>&1; echo "VM-END $?"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1 >"$run/initrd.gz")

timeout "${LIMIT:-600}" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp "${CPUS:-2}" -m "${MEM:-2048}" \
  -display none -nic none -serial stdio -no-reboot -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$run/initrd.gz" \
  -append "console=ttyS0 panic=-1 quiet" </dev/null 2>&1 | tee "$run/console" | tr -d '\r' |
  awk '/^VM-BEGIN/ {on=1; next} /^VM-END/ {on=0} on {print; fflush()}' || true
status=$(tr -d '\r' <"$run/console" | awk '/^VM-END/ {print $2}')
[ -n "$status" ] || { echo "the VM did not finish; its last words:" >&2; tail -5 "$run/console" >&2; exit 1; }
exit "$status"

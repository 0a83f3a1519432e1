#!/usr/bin/env bash
# Boots a machine in QEMU with the host's systemd as PID 1, and runs `probe` in
# it as a service. The guest is an initramfs: busybox, systemd's programs and its
# targets, ip, and the test program as /guard.test.
#
# usage: systemd-vm.sh KERNEL WORKDIR GUARD.TEST PROBE
set -euo pipefail
kernel=$1 work=$2 program=$3 probe=$4
root=$work/root
mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,tmp,run,etc,root,var/lib,lib/systemd/system}

add() { # a program with its libraries
  local file
  mkdir -p "$root$(dirname "$1")"
  cp -L "$1" "$root$1"
  { ldd "$1" 2>/dev/null || true; } | { grep -o '/[^ )]*' || true; } | while read -r file; do
    mkdir -p "$root$(dirname "$file")"
    [ -e "$root$file" ] || cp -L "$file" "$root$file"
  done
}
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
  case $applet in ip | busybox) ;; *) ln -sf busybox "$root/bin/$applet" ;; esac
done
add /lib/systemd/systemd
add "$(command -v systemctl)"
add "$(command -v systemd-run)"
ip=$(readlink -f "$(command -v ip)")
add "$ip"
ln -sf "$ip" "$root/bin/iproute2" # the shell prefers its own ip to every other
# Only what orders things: no service of the host's.
cp -a /lib/systemd/system/*.target /lib/systemd/system/*.slice "$root/lib/systemd/system/"
rm -f "$root"/lib/systemd/system/{initrd,emergency,rescue,default}*
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
touch "$root/etc/os-release"
ln -s lib/systemd/systemd "$root/init"
cat >"$root/lib/systemd/system/default.target" <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=probe.service
UNIT
cat >"$root/lib/systemd/system/probe.service" <<'UNIT'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'sh /probe >/dev/ttyS0 2>&1; echo "VM-END $?" >/dev/ttyS0; poweroff -f'
UNIT
cp "$program" "$root/guard.test"
cp "$probe" "$root/probe"

(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1 >"$work/initrd.gz")
timeout "${LIMIT:-300}" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 2 -m 1024 -display none -nic none -serial stdio -no-reboot \
  -kernel "$kernel" -initrd "$work/initrd.gz" \
  -append "console=ttyS0 panic=-1 quiet systemd.show_status=0 systemd.log_target=null" </dev/null 2>&1 | tr -d '\r'

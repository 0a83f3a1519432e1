# Run by systemd-vm.sh in the guest. Every line that begins with "ok" or "bad" is
# looked at by TestUnderSystemd.
export PATH=/usr/bin:/usr/sbin:/bin:/sbin SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
check() { # WHAT COMMAND...
  what=$1; shift
  if "$@" >/tmp/check 2>&1; then echo "ok $what"; else echo "bad $what"; cat /tmp/check; fi
}
ip() { /bin/iproute2 "$@"; }
rules() { ip rule; ip -6 rule; }
units() { systemctl list-units --all --no-legend 'viarule*'; }
until_gone() { i=0; while [ -e "$1" ] && [ $i -lt 400 ]; do sleep 0.1; i=$((i + 1)); done; [ ! -e "$1" ]; }
value() { sed -n "s/.*\"$1\": \"*\([^\",]*\).*/\1/p" "$2" | head -n 1; }
apply() { # TIME: in a control group of its own, as a person's session
  mkdir -p /sys/fs/cgroup/session
  : >/tmp/out
  (echo 0 >/sys/fs/cgroup/session/cgroup.procs; exec /guard.test starter /run/viarule "$1" applied) </dev/zero >/tmp/out 2>&1 &
  i=0; while ! grep -q applied /tmp/out && [ $i -lt 400 ]; do sleep 0.1; i=$((i + 1)); done
  journal=$(echo /run/viarule/ns-*/guard/pending.json)
  answer=$(echo /run/viarule/ns-*/guard/*/answer)
  unit=$(value unit "$journal"); guard=$(value pid "$answer")
}

ip link set lo up
ip rule add pref 2300 from 10.1.0.0/16 table 5007 proto 118
ip rule add pref 2400 fwmark 0x7 unreachable proto 118
ip -6 rule add pref 2300 from 2001:db8:1::/64 table 5007 proto 118
rules >/tmp/before

apply 6s
check "the apply is done" grep -q applied /tmp/out
grep -q applied /tmp/out || { cat /tmp/out; exit 1; }
check "systemd runs the guard" grep -q "/system.slice/$unit.service" "/proc/$guard/cgroup"
check "the timer is there" systemctl is-active "$unit.timer"
echo 1 >/sys/fs/cgroup/session/cgroup.kill
check "the guard outlives the session" [ -d "/proc/$guard" ]
check "the time ends" until_gone "$journal"
check "the guard ends" until_gone "/proc/$guard"
rules >/tmp/after
check "everything is as before" cmp /tmp/before /tmp/after
sleep 1 # systemd forgets the timer a moment later
check "no unit is left" [ -z "$(units)" ]
check "no copy is left" [ -z "$(find /run/viarule -name viarule -type f)" ]

apply 10s
echo 1 >/sys/fs/cgroup/session/cgroup.kill
systemctl kill -s KILL "$unit.service"
sleep 1
check "a guard that is killed comes again" systemctl is-active "$unit.service"
systemctl stop "$unit.service" 2>/dev/null
check "a guard that is stopped stays away" [ "$(systemctl is-active "$unit.service")" = inactive ]
check "the timer starts it after the deadline" until_gone "$journal"
sleep 1
rules >/tmp/after
check "everything is as before, again" cmp /tmp/before /tmp/after
check "no unit is left, again" [ -z "$(units)" ]

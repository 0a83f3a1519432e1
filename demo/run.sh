#!/usr/bin/env bash
# The demo: a server with two uplinks in network namespaces, a client who gets no
# answer, viarule plan, viarule apply, the client who gets its answer. `make demo`
# builds viarule and puts it into PATH. Takes under 20 s, needs root and iproute2,
# and leaves nothing behind, also when it is interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."

lab=examples/lab/two-uplinks.yaml
policy=examples/lab/two-uplinks.policy.yaml
server=vlab-two-uplinks-server

bold='' plain=''
if [ -t 1 ]; then
  bold=$'\e[1m' plain=$'\e[0m'
fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# run shows a command as one would type it, and runs it.
run() {
  printf '%s$' "$bold"
  printf ' %s' "${@@Q}" | sed "s/'\([A-Za-z0-9_./-]*\)'/\1/g"
  printf '%s\n' "$plain"
  "$@"
}

die() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || die 'it makes network namespaces, which takes root'
command -v viarule >/dev/null || die 'there is no viarule in PATH; start it with: make demo'
exec 9<"demo/run.sh"
flock -n 9 || die 'another demo runs now'

cleanup() {
  status=$?
  trap '' INT TERM HUP
  say 'Clean up: the namespaces go, and all that viarule did in them.'
  viarule lab down "$lab" || status=1
  if [ "$status" = 0 ]; then
    say "Done in $SECONDS s."
  else
    say "The demo did not come to its end (exit status $status)."
  fi
  exit "$status"
}

viarule lab down "$lab" >/dev/null # of a demo that was killed
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

say 'A server with two uplinks, each host a network namespace on this machine.
The default route of the server goes by its first uplink, eth0. There a stateful
firewall drops what belongs to no connection that it has seen begin. A client
comes in by the second uplink, eth1.'
run viarule lab up "$lab" --without-objects

say 'The client asks the server, and waits in vain: the request comes in by eth1,
the answer leaves by eth0, and the firewall has never heard of it.'
run viarule lab check "$lab" 'client gets no answer' 'client gets no answer IPv6'

say 'What the server shall do instead, as a RoutingPolicy:'
run grep -v '^#' "$policy"

say 'What viarule would change for that:'
run viarule plan --netns "$server" -f "$policy"

say 'Change it:'
run viarule apply --netns "$server" -f "$policy"

say 'The client asks again. Now the answer leaves by eth1, the way the request came:'
run viarule lab check "$lab" 'client gets its answer' 'client gets its answer IPv6' 'client gets its answer UDP' 'ping' 'ping IPv6'

say 'And what the server begins itself still goes by the first uplink:'
run viarule lab check "$lab" 'server to client' 'server to client IPv6'

say 'The kernel has what the policy says; the table has its name:'
run ip -n "$server" rule
run ip -n "$server" route show table uplink2
run ip -n "$server" -6 rule
run ip -n "$server" -6 route show table uplink2

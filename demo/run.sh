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

. demo/common.sh
begin

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

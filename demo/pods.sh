#!/usr/bin/env bash
# The demo of pods: two nodes whose FORWARD policy is DROP, two pods on each made by the
# CNI plugin viarule-ptp, silence between them, viarule apply, and everyone reaches
# everyone. `make demo-pods` builds the programs and puts them into PATH. Takes under
# 20 s, needs root, iproute2, iptables, nftables and ping, and leaves nothing behind,
# also when it is interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."

lab=examples/lab/pods.yaml
object=examples/lab/pods.object.yaml
. demo/common.sh

pods="a1 a2 b1 b2" cluster="a1 a2 b1 b2 node1 node2"
declare -A node=([a1]=node1 [a2]=node1 [b1]=node2 [b2]=node2)
declare -A addresses=([node1]='192.0.2.1 2001:db8::1' [node2]='192.0.2.2 2001:db8::2' [other]='192.0.2.3 2001:db8::3')

# on runs a command on a host or in a pod of the lab.
on() { ip netns exec "vlab-pods-$1" "${@:2}"; }

# cni calls the plugin for a pod as a container runtime does: in the node's network
# namespace, all that it has to know in the environment and on standard input.
cni() {
  local conf=examples/lab/pods.${node[$2]}.json
  printf '%s$ CNI_COMMAND=%s CNI_NETNS=/run/netns/vlab-pods-%s ... viarule-ptp < %s%s\n' "$bold" "$1" "$2" "$conf" "$plain"
  CNI_COMMAND=$1 CNI_CONTAINERID=demo-$2 CNI_NETNS=/run/netns/vlab-pods-$2 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
    on "${node[$2]}" viarule-ptp <"$conf" >"$work/result"
}

# add makes a pod's interface, and notes and prints its addresses.
add() {
  cni ADD "$1"
  addresses[$1]=$(on "$1" ip -o addr show dev eth0 scope global | awk '{sub("/.*", "", $4); print $4}' | paste -sd ' ')
  printf '  %s on %s: %s\n' "$1" "${node[$1]}" "${addresses[$1]}"
}

# matrix has each of $3 ping each of $2 at once, IPv4 and IPv6, prints who has an answer
# from whom, and ends the demo where there are not $1 answers.
matrix() {
  local from to address answers
  answers=$(for from in $3; do
    for to in $2; do
      for address in ${addresses[$to]}; do
        [ "$from" = "$to" ] || { on "$from" ping -q -c 1 -w 2 "$address" >/dev/null 2>&1 && echo "$from $to $address"; } &
      done
    done
  done; wait)
  awk -v all="$2" -v rows="$3" '
    { got[$1, $2, $3 ~ /:/] = 1 }
    END {
      columns = split(all, to); printf "  %5s", ""; for (c = 1; c <= columns; c++) printf "  %5s", to[c]
      for (r = 1; r <= split(rows, from); r++) {
        printf "\n  %5s", from[r]
        for (c = 1; c <= columns; c++)
          printf "  %5s", from[r] == to[c] ? "." : (got[from[r], to[c], 0] ? "4" : "-") " " (got[from[r], to[c], 1] ? "6" : "-")
      }
      printf "\n"
    }' <<<"$answers"
  [ "$(grep -c . <<<"$answers")" = "$1" ] || die "$1 answers should have come"
}

command -v viarule-ptp >/dev/null || die 'there is no viarule-ptp in PATH; start it with: make demo-pods'
work=/run/viarule-demo

# leave takes down what the lab does not: the pings, and the pods with their addresses.
leave() {
  local pod failed=0
  jobs -p | xargs -r kill 2>/dev/null || :
  mkdir -p "$work"
  for pod in $pods; do
    [ ! -e "/run/netns/vlab-pods-$pod" ] || cni DEL "$pod" >/dev/null || failed=1
  done
  rm -rf /var/lib/cni/viarule-demo "$work"
  rmdir /var/lib/cni 2>/dev/null || :
  return $failed
}

begin
mkdir "$work"

say 'Two nodes and another host on a LAN, each a network namespace on this machine. The
nodes forward nothing that no rule accepts, as Docker leaves a host:'
run viarule lab up "$lab" --without-objects
for n in node1 node2; do
  run ip netns exec "vlab-pods-$n" iptables -P FORWARD DROP
  run ip netns exec "vlab-pods-$n" ip6tables -P FORWARD DROP
done

say 'Two pods on each node, by the CNI plugin viarule-ptp and this configuration:'
run cat examples/lab/pods.node1.json
for p in $pods; do add "$p"; done

say 'Who has an answer from whom, IPv4 and IPv6? Pods reach their own node, and no more:'
matrix 8 "$cluster" "$pods"

say 'What shall be, on all nodes:'
run grep -v '^#' "$object"
for n in node1 node2; do run viarule apply --netns "vlab-pods-$n" -f "$object"; done

say 'Now every pod reaches every pod and both nodes:'
matrix 40 "$cluster" "$pods"

say 'The other host needs a route for each node, as any router would:'
for n in 1 2; do
  run ip -n vlab-pods-other route add "10.244.$n.0/24" via "192.0.2.$n"
  run ip -n vlab-pods-other route add "fd00:244:$n::/64" via "2001:db8::$n"
done
matrix 12 "$cluster" other

say 'No NAT, no tunnel: what node2 sees come in for its pods, captured on its eth0 while a1
and a2 call them, has the address of the pod that sent it:'
on node2 nft -f - <<'NFT'
table netdev capture {
  set from4 { typeof ip saddr; flags dynamic; }
  set from6 { typeof ip6 saddr; flags dynamic; }
  chain in {
    type filter hook ingress device eth0 priority 0
    ip daddr 10.244.2.0/24 add @from4 { ip saddr }
    ip6 daddr fd00:244:2::/64 add @from6 { ip6 saddr }
  }
}
NFT
for p in a1 a2; do
  for address in ${addresses[b1]}; do on "$p" ping -q -c 1 -w 2 "$address" >/dev/null || die "$p: no answer from b1, $address"; done
done
captured=$(on node2 nft list table netdev capture | tr -d '\n\t' | grep -o 'elements = {[^}]*}' | grep -oE '[0-9a-f.:]{7,}' | paste -sd ' ')
printf '  %s\n' "$captured"
[ "$(xargs -n 1 <<<"$captured" | sort)" = "$(xargs -n 1 <<<"${addresses[a1]} ${addresses[a2]}" | sort)" ] || die 'these are not the addresses of a1 and a2'

say 'A pod goes: nothing of it stays on its node, and its address is unreachable, not lost
in a loop to the default gateway.'
gone=(${addresses[a2]})
cni DEL a2
run ip netns exec vlab-pods-a1 ping -c 1 -w 2 "${gone[0]}" || :
left=$(on node1 ip route show "${gone[0]}"; on node1 ip -6 route show "${gone[1]}"; on node1 ip neigh show to "${gone[0]}"; on node1 ip neigh show to "${gone[1]}")
[ -z "$left" ] || die "left of pod a2: $left"
say 'It comes again:'
add a2
matrix 12 "$cluster other" a2

say "node2's prefixes move to its other address, while a1 pings b1 200 times a second:"
for address in ${addresses[b1]}; do
  on a1 ping -i 0.005 -c 600 "$address" >"$work/$address" 2>&1 &
  until grep -q 'bytes from' "$work/$address"; do
    kill -0 $! 2>/dev/null || die "a1: no answer from b1, $address"
  done
done
sed 's/192\.0\.2\.2,/192.0.2.12,/; s/2001:db8::2"/2001:db8::12"/' "$object" >"$work/moved.yaml"
run diff "$object" "$work/moved.yaml" || :
run viarule apply --netns vlab-pods-node1 -f "$work/moved.yaml"
run viarule apply --netns vlab-pods-node2 -f "$work/moved.yaml"
[ "$(jobs -pr | wc -l)" = 2 ] || die 'the pings were over before the change'
wait
for address in ${addresses[b1]}; do
  sed -n '/statistics/,/loss/p' "$work/$address"
  grep -q ' 0% packet loss' "$work/$address" || die 'packets were lost'
done
run ip -n vlab-pods-node1 route get 10.244.2.2
run ip -n vlab-pods-node1 route get fd00:244:2::2
matrix 60 "$cluster other" "$pods other"

say 'viarule knows of all of it:'
run viarule status --netns vlab-pods-node1

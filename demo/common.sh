# What the demos share: how they talk, and how they end. Sourced, in the top folder;
# the demo sets lab, and takes its pods down in leave.

bold='' plain=''
if [ -t 1 ]; then
  bold=$'\e[1m' plain=$'\e[0m'
fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# run shows a command as one would type it, and runs it.
run() {
  printf '%s$' "$bold"
  printf ' %s' "${@@Q}" | sed "s/'\([A-Za-z0-9_./:=-]*\)'/\1/g"
  printf '%s\n' "$plain"
  "$@"
}

die() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

leave() { :; }

cleanup() {
  status=$?
  trap '' INT TERM HUP
  say 'Clean up: the namespaces go, and all that viarule did in them.'
  leave || status=1
  viarule lab down "$lab" || status=1
  if [ "$status" = 0 ]; then
    say "Done in $SECONDS s."
  else
    say "The demo did not come to its end (exit status $status)."
  fi
  exit "$status"
}

# begin sees to it that the demo cleans up, also after one that was killed.
begin() {
  [ "$(id -u)" = 0 ] || die 'it makes network namespaces, which takes root'
  command -v viarule >/dev/null || die 'there is no viarule in PATH; start it with: make demo, make demo-pods'
  exec 9<demo/common.sh
  flock -w 5 9 || die 'another demo runs now' # one that was killed may take a moment to go
  leave >/dev/null
  viarule lab down "$lab" >/dev/null
  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
}

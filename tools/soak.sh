#!/usr/bin/env bash
# Runs each property test again and again, with new seeds, for SOAKTIME seconds each
# (60 unless told). Without arguments all of them, else those of the packages named:
# tools/soak.sh ./internal/fib ./internal/kernel
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SOAKTIME:-60}
unset RAPID_SEED
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT

export uses='rapid\.(Make)?Check\(|kerneltest\.Options' # how a test comes to draw something
packages=("$@")
if [ $# -eq 0 ]; then
	mapfile -t packages < <(grep -rlE "$uses" --include='*_test.go' internal test | xargs -n1 dirname | sort -u | sed 's|^|./|')
fi
bad=0
for p in "${packages[@]}"; do
	# The tests whose body, up to the next func, asks rapid to check something.
	names=$(awk 'FNR == 1 {name = ""} /^func / {name = ""} /^func Test/ {sub(/^func /, ""); sub(/\(.*/, ""); name = $0}
		$0 ~ ENVIRON["uses"] {if (name != "") print name}' "$p"/*_test.go | sort -u)
	[ -n "$names" ] || continue
	(cd "$p" && go test -c -o "$bin/t" .) # some have a go.mod of their own
	for name in $names; do
		rounds=0 start=$SECONDS
		while [ $((SECONDS - start)) -lt "$seconds" ]; do
			if ! out=$(cd "$p" && "$bin/t" -test.run "^$name\$" -test.timeout 30m -rapid.nofailfile 2>&1); then
				printf '%s\n' "$out"
				bad=1
				break
			fi
			rounds=$((rounds + 1))
		done
		echo "$p $name: $rounds rounds in $((SECONDS - start)) s"
	done
done
exit $bad

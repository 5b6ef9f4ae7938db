#!/bin/bash
# bars.sh [write] - this tree's iked against what it is to come to: the rate at which it is saturated, latency at
# half of that, what becomes of twice as many, memory of each IKE SA, many peers that stay, and what a handshake
# costs with 1 to 16 shards. A table is printed, with JSON and a page in target/bars; `write` puts the table into
# benches/README.md too, where it is said how it is to be read. Ends with 1 if a bar is missed.
# Needs root.
# Environment: IKED_BARS_LONG=1 (a minute of overload, and a million peers: half an hour and 8 GB of memory),
# IKED_BARS_ONLY (some of `peak half overload memory million shards`), IKED_BARS_CPU (per cent of one CPU that iked has in
# overload, so that the peers can be too many for it; default 10),
# IKED_BARS_BIN (folder of the binaries; default: those of a release, built first).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin" LC_ALL=C
OUT=target/bars SCENARIOS=loadtest/scenarios
ONLY=${IKED_BARS_ONLY:-peak half overload memory million shards} CPU=${IKED_BARS_CPU:-10} LONG=${IKED_BARS_LONG:-}
[ -n "$LONG" ] || ONLY=${ONLY/million/}
PEERS=${LONG:+100000} SECONDS_OVER=${LONG:+60}
PEERS=${PEERS:-4000} SECONDS_OVER=${SECONDS_OVER:-10}
say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
[ "$(id -u)" = 0 ] || { echo "$0 needs root for its network namespaces" >&2; exit 1; }
BIN=${IKED_BARS_BIN-}
[ -n "$BIN" ] || { cargo build --locked --release --workspace --bins >&2; BIN=target/release; }
export IKED_LOAD_BIN=$BIN
mkdir -p "$OUT"
wanted() { case " $ONLY " in *" $1 "*) true;; *) false;; esac; }
# run NAME SCENARIO KEY=VALUE..: the scenario with other values. Whoever is lost is in the report.
run() {
  local name=$1 scenario=$OUT/$1.toml words=() word; shift
  cp "$SCENARIOS/$1.toml" "$scenario"; shift
  for word in "$@"; do words+=(-e "s/^${word%%=*} = .*/${word%%=*} = ${word#*=}/"); done
  [ $# = 0 ] || sed -i "${words[@]}" "$scenario"
  rm -f "$OUT/$name.json"
  say "$name: $*"
  scripts/load.sh "$scenario" --json "$OUT/$name.json" --html "$OUT/$name.html" >"$OUT/$name.txt" || true
  cat "$OUT/$name.txt" >&2
  [ -e "$OUT/$name.json" ] || { echo "$name: no report" >&2; exit 1; }
}
# rate_of NAME PART: that part of the rate of a run, with one digit.
rate_of() { sed -n 's/^  "rate": \([0-9.]*\),*$/\1/p' "$OUT/$1.json" | awk -v part="$2" '{ printf "%.1f", $1 * part }'; }
# times RATE SECONDS: so many peers.
times() { awk -v rate="$1" -v seconds="$2" 'BEGIN { printf "%d", rate * seconds }'; }

# Else one would wait for the other's turn on a CPU, and that is not what is asked for.
if wanted peak || wanted half; then
  IKED_LOAD_APART=1 run peak storm count=$PEERS
fi
if wanted half; then
  rate=$(rate_of peak 0.5)
  IKED_LOAD_APART=1 run half arrivals count="$(times "$rate" "$SECONDS_OVER")" rate="$rate" child_lifetime=10800 seconds=2 dpd=60
fi
if wanted overload; then
  export IKED_LOAD_CPU=$CPU
  run capped storm count="$((PEERS / 10))"
  rate=$(rate_of capped 2)
  run twice overload count="$(times "$rate" "$SECONDS_OVER")" rate="$rate"
  unset IKED_LOAD_CPU
fi
wanted memory && run 100k million count=100000
wanted million && run million million
if wanted shards; then
  for shards in 1 2 4 8 16; do
    IKED_LOAD_SHARDS=$shards run shards-$shards storm count="$PEERS"
  done
fi
status=0
"$BIN/ikeload" "$OUT" --bars >"$OUT/table" || status=$?
[ $status -le 1 ] || exit $status
COMMIT=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- src loadtest || COMMIT="$COMMIT with changes"
{ echo "Commit $COMMIT."; echo; cat "$OUT/table"; } | tee "$OUT/figures"
say "$OUT/bars.html has the picture, $OUT/bars.json the figures"
[ "${1:-}" != write ] || scripts/between.sh benches/README.md bars <"$OUT/figures"
exit $status

#!/bin/bash
# bench.sh [write] - runs every bench and prints the figures as Markdown, all of one run; `write` puts
# them into benches/README.md too, in the place of those that stand there.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin" CARGO_TERM_COLOR=never LC_ALL=C
FIGURES=$(mktemp)
trap 'rm -f "$FIGURES"' EXIT

# The codec's bench is criterion's; it leaves its medians in files.
wire() {
  local group file median name
  rm -rf target/criterion/wire_*
  cargo bench --locked --bench wire -- --noplot >&2
  printf '\n### wire\n\n| codec | time |\n|---|---:|\n'
  for group in ike_sa_init ike_auth; do
    for file in target/criterion/wire_$group/*/new/estimates.json; do
      name=$(basename "$(dirname "$(dirname "$file")")")
      median=$(sed 's/.*"median":{"confidence_interval":{[^}]*},"point_estimate":\([0-9.e+-]*\).*/\1/' "$file")
      awk -v name="${group^^}: $name" -v ns="$median" 'BEGIN { printf "| %s | %.2f us |\n", name, ns / 1000 }'
    done
  done
}

figures() {
  local commit model
  commit=$(git rev-parse --short HEAD)
  git diff --quiet HEAD -- src || commit="$commit with changes"
  model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
  printf '%s, commit %s, %s (%d CPUs), Linux %s.\n' \
    "$(date +%F)" "$commit" "$model" "$(nproc)" "$(uname -r)"
  for bench in handshake crypto shard shards policies lookup memory; do
    cargo bench --locked --bench $bench
  done
  wire
}

figures | tee "$FIGURES"
[ "${1:-}" != write ] || scripts/between.sh benches/README.md figures <"$FIGURES"

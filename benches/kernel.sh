#!/bin/bash
# kernel.sh - the bench `kernel` in a guest (tests/kernel/rig.sh), whose tables it may fill.
#   benches/kernel.sh [-b uml|tcg]
set -eu
cd "$(dirname "$0")/.."
BACKEND=${IKED_RIG_BACKEND:-uml}
if [ "${1-}" = -b ]; then BACKEND=$2; shift 2; fi
BENCH=$(cargo bench --locked --no-run --bench kernel --message-format=json 2>/dev/null |
  sed -n 's/.*"name":"kernel".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$BENCH" ] || { echo "benches/kernel.rs does not build: cargo bench --no-run --bench kernel" >&2; exit 1; }
exec tests/kernel/rig.sh -b "$BACKEND" -m "${IKED_BENCH_MB:-3072}" -t "${IKED_RIG_LIMIT:-1800}" "$(printf '%q ' "$BENCH" --bench "$@")"

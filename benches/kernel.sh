#!/bin/bash
# kernel.sh - the bench `kernel` in a guest (tests/kernel/rig.sh), whose tables it may fill.
#   benches/kernel.sh [-b uml|tcg] [-K 6.1|6.12] [changes|packets]
#   benches/kernel.sh write      in three guests, one after the other: Linux 6.1 for user mode, then 6.1 and 6.12 in
#                                QEMU without KVM; puts the figures into benches/README.md
set -eu
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin" CARGO_TERM_COLOR=never LC_ALL=C
BACKEND=${IKED_RIG_BACKEND:-uml} KERNEL=6.1 WRITE=
if [ "${1-}" = write ]; then WRITE=1; shift; fi
if [ "${1-}" = -b ]; then BACKEND=$2; shift 2; fi
if [ "${1-}" = -K ]; then KERNEL=$2; shift 2; fi
BENCH=${KERNEL_BENCH_BIN:-$(cargo bench --locked --no-run --bench kernel --message-format=json 2>/dev/null |
  sed -n 's/.*"name":"kernel".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)}
[ -x "$BENCH" ] || { echo "benches/kernel.rs does not build: cargo bench --no-run --bench kernel" >&2; exit 1; }
guest() { # BACKEND KERNEL [changes|packets]
  tests/kernel/rig.sh -b "$1" -K "$2" -m "${IKED_BENCH_MB:-3072}" -t "${IKED_RIG_LIMIT:-1800}" \
    "$(printf '%q ' "$BENCH" --bench "${@:3}")"
}
[ -n "$WRITE" ] || { guest "$BACKEND" "$KERNEL" "$@"; exit; }
FIGURES=$(mktemp)
trap 'rm -f "$FIGURES"' EXIT
{
  printf '%s, commit %s, %s (%d CPUs), load %s at the start.\n' "$(date +%F)" "$(git rev-parse --short HEAD)" \
    "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(cut -d ' ' -f 1 /proc/loadavg)"
  guest uml 6.1 "$@"
  guest tcg 6.1 "$@"
  guest tcg 6.12 "$@"
} | tee "$FIGURES"
scripts/between.sh benches/README.md kernel <"$FIGURES"

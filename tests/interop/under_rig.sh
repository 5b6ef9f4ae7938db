#!/bin/bash
# under_rig.sh - the interop tests with real ESP traffic: every test of tests/interop.rs, under
# tests/kernel/rig.sh unless this machine's own kernel has ESP.
#   tests/interop/under_rig.sh [-b uml|tcg] [NAME..]   NAME: only tests whose name contains it
# Environment: IKED_RIG_BACKEND (default uml), IKED_RIG_LIMIT (default 2400 seconds for each guest), IKED_INTEROP_GUESTS (how many),
# IKED_INTEROP_ALL (what one release of a peer shows is played with the other, too).
set -u
cd "$(dirname "$0")/../.." || exit 1
BACKEND=${IKED_RIG_BACKEND:-uml} LIMIT=${IKED_RIG_LIMIT:-2400}
if [ "${1-}" = -b ]; then BACKEND=$2; shift 2; fi
[ "$(id -u)" = 0 ] || { echo "the interop tests need root" >&2; exit 1; }
scripts/deps.sh peers || exit 1
TEST=$(cargo test --locked --no-run --test interop --message-format=json 2>/dev/null |
  sed -n 's/.*"name":"interop".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$TEST" ] || { echo "tests/interop.rs does not build: cargo test --no-run --test interop" >&2; exit 1; }

if ip xfrm state add src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x494b0002 reqid 1229651970 mode tunnel \
  aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128 2>/dev/null; then
  ip xfrm state delete src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x494b0002
  export IKED_KERNEL_TESTS=1
  STATUS=0
  for name in "${@:-}"; do "$TEST" --test-threads=1 $name || STATUS=1; done
  exit $STATUS
fi

guest() { # PART NAME..: in a guest of its own, one after the other, and the time that it took
  local start=$SECONDS part=$1 script name; shift
  script="export IKED_KERNEL_TESTS=1 ${IKED_INTEROP_ALL:+IKED_INTEROP_ALL=1} ${part:+IKED_INTEROP_PART=$part}; status=0"
  for name; do script+="; $(printf '%q ' "$TEST" --test-threads=1) $name || status=1"; done
  tests/kernel/rig.sh -b "$BACKEND" -t "$LIMIT" "$script; exit \$status" 2>&1
  local status=$?
  echo "guest ($part$*): exit status $status after $((SECONDS - start)) s"
  return $status
}
tests/kernel/rig.sh -b "$BACKEND" --setup || exit 1
if [ $# -gt 0 ]; then guest "" "$@"; exit; fi
# Without names: so many guests, each with its part of all cells, for most of a cell is waiting; beside them what needs
# no ESP, and QEMU for what user-mode Linux has not. The words of each are shown when it has ended.
GUESTS=${IKED_INTEROP_GUESTS:-6}
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
show() { # FILE COMMAND..
  local file=$OUT/$1 status=0; shift
  "$@" >"$file" 2>&1 || status=$?
  flock "$OUT" cat "$file"
  return $status
}
dry() { # what the guests do not play, without ESP, on this machine
  local start=$SECONDS status=0
  IKED_INTEROP_CELLS=dry "$TEST" --test-threads=1 || status=1
  echo "without guest: exit status $status after $((SECONDS - start)) s"
  return $status
}
LANES=()
for ((part = 1; part <= GUESTS; part++)); do
  show guest$part guest $part/$GUESTS "" & LANES+=($!)
done
[ -n "${IKED_INTEROP_ALL:-}" ] || { show dry dry & LANES+=($!); }
# User-mode Linux has no XFRM interfaces.
(BACKEND=tcg; show routes guest "" by_routes) & LANES+=($!)
STATUS=0
for pid in "${LANES[@]}"; do
  wait "$pid" || STATUS=1
done
exit $STATUS

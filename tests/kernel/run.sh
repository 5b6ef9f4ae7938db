#!/bin/bash
# run.sh - the kernel tests: self-test of the kernel, then every test of tests/kernel_xfrm.rs,
# under rig.sh unless this machine's own kernel has ESP.
#   tests/kernel/run.sh [-b tcg|uml] [-K 6.1|6.12] [NAME..]     NAME: only tests whose name contains it
# Without -K and names, and with -b uml, in four guests: two of user-mode Linux have most of the tests, which are
# waiting more than anything else; beside them a third has those that need XFRM interfaces, and then a fourth, with Linux
# 6.12, those and what is a kernel's own choice.
set -eu
cd "$(dirname "$0")/../.."
BACKEND=${IKED_RIG_BACKEND:-tcg} KERNEL=
if [ "${1-}" = -b ]; then BACKEND=$2; shift 2; fi
if [ "${1-}" = -K ]; then KERNEL=$2; shift 2; fi
[ "$(id -u)" = 0 ] || { echo "the kernel tests need root" >&2; exit 1; }
need() { # program package
  command -v "$1" >/dev/null && return
  apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1 ||
    { apt-get update -qq; apt-get install -y -qq --no-install-recommends "$2" >/dev/null; }
}
need ip iproute2
need ping iputils-ping
need iptables-legacy iptables
TEST=${KERNEL_XFRM_BIN:-$(cargo test --locked --no-run --test kernel_xfrm --message-format=json 2>/dev/null |
  sed -n 's/.*"name":"kernel_xfrm".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)}
[ -x "$TEST" ] || { echo "tests/kernel_xfrm.rs does not build: cargo test --no-run --test kernel_xfrm" >&2; exit 1; }
# One thread: the tests' waits are real time, and the guest is slow.
line() { # ARGUMENT..: of the test program
  echo "IKED_KERNEL_TESTS=1 $(printf '%q ' "$TEST" --test-threads=1 "$@")"
}
guest() { # BACKEND KERNEL ARGUMENT..
  tests/kernel/rig.sh -b "$1" -K "$2" -t "${IKED_RIG_LIMIT:-900}" "uname -sr && tests/kernel/selftest.sh && $(line "${@:3}")"
}
if ip xfrm state add src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x494b0002 reqid 1229651970 mode tunnel \
  aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128 2>/dev/null; then
  ip xfrm state delete src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x494b0002
  exec bash -c "$(line "$@")"
fi
[ "$BACKEND$KERNEL" = uml ] && [ $# = 0 ] || { guest "$BACKEND" "${KERNEL:-6.1}" "$@"; exit; }
# User-mode Linux has no XFRM interfaces.
ROUTES="interfaces:: vpn_by_routes"
# How policies are looked up, and that modes, families and ciphers are there, is another kernel's own affair.
NEWER="$ROUTES couple:: modes_families_esn_and_ah trap_gives_way"
tests/kernel/rig.sh -b uml --setup
for kernel in 6.1 6.12; do tests/kernel/rig.sh -b tcg -K $kernel --setup; done
# Of the daemon, which wait longest.
WHOLE="daemon:: routes:: couple:: traps::"
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
(
  status=0
  guest tcg 6.1 $ROUTES || status=$?
  guest tcg 6.12 $NEWER || status=$?
  exit $status
) >"$OUT/tcg" 2>&1 & TCG=$!
guest uml 6.1 $WHOLE --skip vpn_by_routes >"$OUT/uml" 2>&1 & UML=$!
STATUS=0
guest uml 6.1 --skip interfaces:: $(printf ' --skip %s' $WHOLE) || STATUS=$?
wait $UML || STATUS=$?
cat "$OUT/uml"
wait $TCG || STATUS=$?
cat "$OUT/tcg"
exit $STATUS

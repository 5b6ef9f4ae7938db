#!/bin/bash
# demo.sh - a road warrior gets in: builds iked, makes two network namespaces, and lets a strongSwan
# client in. Where this machine's kernel has no ESP, the scene plays in a small virtual machine with
# a Debian kernel (tests/kernel/rig.sh).
set -eu
cd "$(dirname "$0")/.."
START=$SECONDS
step() { printf '\033[1m[%s/4 %3ds] %s\033[0m\n' "$1" $((SECONDS - START)) "$2"; }
[ "$(id -u)" = 0 ] || { echo "the demo makes network namespaces: run it as root" >&2; exit 1; }

step 1 "installing what is missing"
scripts/deps.sh all
export PATH="$PATH:$HOME/.cargo/bin"

step 2 "building iked and ikectl (the first time with BoringSSL: some minutes)"
cargo build --locked --bins

has_esp() {
  modprobe -q esp4 2>/dev/null || true
  ip xfrm state add src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x494b0003 reqid 1229651971 mode tunnel \
    aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128 2>/dev/null || return 1
  ip xfrm state delete src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x494b0003
}

export IKED="$PWD/${CARGO_TARGET_DIR:-target}/debug/iked" IKECTL="$PWD/${CARGO_TARGET_DIR:-target}/debug/ikectl"
case ${CARGO_TARGET_DIR-} in /*) IKED=$CARGO_TARGET_DIR/debug/iked IKECTL=$CARGO_TARGET_DIR/debug/ikectl;; esac
if has_esp; then
  step 3 "this kernel has ESP: playing the scene here"
  scripts/demo-scene.sh
else
  step 3 "this kernel has no ESP: playing the scene under a Debian kernel in a virtual machine"
  tests/kernel/rig.sh -b "${IKED_RIG_BACKEND:-uml}" -t 300 -e IKED -e IKECTL "$PWD/scripts/demo-scene.sh" ||
    { echo "user-mode Linux does not do here; trying QEMU" >&2
      tests/kernel/rig.sh -b tcg -t 600 -e IKED -e IKECTL "$PWD/scripts/demo-scene.sh"; }
fi
step 4 "done"

#!/bin/bash
# deps.sh - installs what is missing to build, test and demonstrate iked on Debian 12, as root.
#   scripts/deps.sh build     compiler, cmake, libclang, Rust
#   scripts/deps.sh peers     strongSwan, network tools, and peers that are unpacked and not
#                             installed, for the demo and the tests
#   scripts/deps.sh compare   `build`, and what scripts/compare.sh needs: strongSwan, and the other peers unpacked
set -eu
cd "$(dirname "$0")/.."
say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

MISSING=()
want() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed' || MISSING+=("$1"); }
install_missing() {
  [ ${#MISSING[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || { echo "missing: ${MISSING[*]} (run as root to install)" >&2; exit 1; }
  say "installing ${MISSING[*]}"
  # No service may start by itself: charon would take port 500.
  local policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  local log; log=$(mktemp)
  apt-get install -y -qq --no-install-recommends "${MISSING[@]}" >"$log" 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${MISSING[@]}" >"$log" 2>&1; } ||
    { cat "$log" >&2; rm -f "$log" $policy; exit 1; }
  rm -f "$log" $policy
  MISSING=()
}

build() {
  for package in build-essential cmake clang libclang-dev ca-certificates curl git; do want $package; done
  install_missing
  if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    say "installing Rust"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal -c rustfmt -c clippy
  fi
}

peers() {
  for package in iproute2 iputils-ping tcpdump iptables openssl procps kmod python3 mandoc \
    strongswan-swanctl charon-systemd libcharon-extra-plugins libcharon-extauth-plugins libstrongswan-standard-plugins \
    libstrongswan-extra-plugins strongswan-pki freeradius freeradius-utils; do
    want $package
  done
  install_missing
  tests/interop/peers.sh all >/dev/null
  tests/interop/plugin.sh eap-peap >/dev/null
}

compare() {
  for package in iproute2 util-linux openssl dpkg-dev bzip2 xz-utils strongswan-swanctl charon-systemd \
    libstrongswan-standard-plugins; do
    want $package
  done
  install_missing
  tests/interop/peers.sh strongswan-6.0.1 libreswan-4.10 openiked-7.2 >/dev/null
  for version in 5.9.8 6.0.1; do tests/interop/plugin.sh fake-kernel $version >/dev/null; done
}

case ${1-all} in
  build) build;;
  peers) peers;;
  compare) build; compare;;
  all) build; peers;;
  *) sed -n '2,6p' "$0" >&2; exit 1;;
esac

#!/bin/bash
# load.sh - a run of ikeload against this tree's iked, each in a network namespace of its own, both
# gone afterwards; iked loads nothing into the kernel (`set decouple`).
#   scripts/load.sh SCENARIO [ikeload's other arguments]
# Environment: IKED_LOAD_SHARDS (default 1), IKED_LOAD_SET (further `set` lines of iked.conf),
# IKED_LOAD_BIN (folder of the binaries; default: those of a release, built first),
# IKED_LOAD_AUTH (how the peers prove themselves, in the words of iked.conf; default: a secret),
# IKED_LOAD_LIFETIMES (`ikelifetime N lifetime N` of the responder's policy),
# IKED_LOAD_APART=1 (iked has the first CPU for itself and ikeload the last; default: they share all),
# IKED_LOAD_CPU (per cent of one CPU that iked may use, 10 or more; default: all there is),
# IKED_LOAD_POOL (what gives them addresses; may be empty, for a scenario with `virtual_ip = false`),
# IKED_LOAD_CONFIG_DIR (iked's folder of keys and certificates; default: an empty one).
# For a scenario of peers with keys all of that is made first; IKED_LOAD_CREDENTIALS is then a folder for
# the peers other than iked's.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"
[ $# -ge 1 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
BIN=${IKED_LOAD_BIN-}
[ -n "$BIN" ] || { cargo build --locked --release --workspace --bins >&2; BIN=target/release; }

. scripts/load-hosts.sh
# confine PID PERCENT: so much of one CPU and no more, 10 or more, in slices of milliseconds; version 1 of cgroups or 2.
confine() {
  local group period=10000
  if [ -e /sys/fs/cgroup/cpu/cpu.cfs_quota_us ]; then
    group=/sys/fs/cgroup/cpu/ikeload-$$
    mkdir "$group"
    echo $period >"$group/cpu.cfs_period_us"
    echo $((period * $2 / 100)) >"$group/cpu.cfs_quota_us"
  else
    group=/sys/fs/cgroup/ikeload-$$
    echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
    mkdir "$group"
    echo "$((period * $2 / 100)) $period" >"$group/cpu.max"
  fi
  trap 'cleanup; rmdir "'"$group"'"' EXIT
  echo "$1" >"$group/cgroup.procs"
}
CONFIG_DIR=${IKED_LOAD_CONFIG_DIR-$DIR} AUTH=${IKED_LOAD_AUTH-psk \"open sesame\"}
if grep -qE '^method *= *"(raw|certificate)"' "$1"; then
  "$BIN/ikeload" "$1" --write-credentials "$DIR/credentials"
  CONFIG_DIR=$DIR/credentials AUTH=${IKED_LOAD_AUTH-signature}
  set -- "$@" --credentials "${IKED_LOAD_CREDENTIALS-$CONFIG_DIR}"
fi
POOL=${IKED_LOAD_POOL-config address 10.128.0.0/9}
cat >"$DIR/iked.conf" <<EOF
set decouple
${IKED_LOAD_SET-}
ikev2 "load" passive esp from 10.8.0.0/24 to $([ -n "$POOL" ] && echo dynamic || echo any) local any peer any srcid gateway.example \
  ${IKED_LOAD_LIFETIMES-} $AUTH $POOL
EOF
chmod 600 "$DIR/iked.conf"
IKED_ON=() IKELOAD_ON=()
if [ -n "${IKED_LOAD_APART-}" ]; then
  IKED_ON=(taskset -c 0) IKELOAD_ON=(taskset -c $(($(nproc) - 1)))
fi
ip netns exec "$GW" "${IKED_ON[@]}" "$BIN/iked" -d -f "$DIR/iked.conf" -s "$DIR/iked.sock" \
  --config-dir "$CONFIG_DIR" --shards "${IKED_LOAD_SHARDS:-1}" >"$DIR/iked.log" 2>&1 &
RESPONDER=$!
[ -z "${IKED_LOAD_CPU-}" ] || confine "$RESPONDER" "$IKED_LOAD_CPU"
wait_for "$DIR/iked.log" "$BIN/ikectl" -s "$DIR/iked.sock" show stats
ip netns exec "$LOAD" "${IKELOAD_ON[@]}" "$BIN/ikeload" "$@" --pid "$RESPONDER"

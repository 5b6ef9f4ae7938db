#!/bin/bash
# compare.sh [write] - this tree's iked, strongSwan, libreswan and OpenIKED, one after the other in turns, as
# responder to the same peers of ikeload: what an IKE SA costs each, beside what BoringSSL's primitives alone cost;
# then iked and strongSwan under a flood of strangers. The table is printed, with JSON and a page with a picture
# in target/compare; `write` puts it into benches/README.md too, where it is said how it is to be read, and a
# few words of it into README.md.
# Needs root, and what `scripts/deps.sh compare` gets.
# Environment: IKED_COMPARE_ROUNDS (default 3), IKED_COMPARE_PEERS (default 4000),
# IKED_COMPARE_SCENARIOS (default: all that are below), IKED_COMPARE_RESPONDERS (default: all; iked is always one),
# IKED_COMPARE_BIN (folder of the binaries; default: those of a release, built first).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin" LC_ALL=C
ROUNDS=${IKED_COMPARE_ROUNDS:-3} PEERS=${IKED_COMPARE_PEERS:-4000}
RESPONDERS=${IKED_COMPARE_RESPONDERS:-strongswan-5.9.8 strongswan-6.0.1 libreswan-4.10 openiked-7.2}
SCENARIOS=${IKED_COMPARE_SCENARIOS:-psk ecdsa ecdsa-again rsa rsa-again psk-ecp256 flood-20k flood-100k flood-beside}
OUT=target/compare
say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
BIN=${IKED_COMPARE_BIN-}
[ -n "$BIN" ] || { cargo build --locked --release --workspace --bins >&2; BIN=target/release; }
for program in charon-systemd swanctl cc taskset nsenter openssl; do
  command -v $program >/dev/null || { echo "$program is missing: scripts/deps.sh compare" >&2; exit 1; }
done
COMMIT=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- src loadtest || COMMIT="$COMMIT with changes"
mkdir -p "$OUT"
. scripts/load-hosts.sh
for part in peers iked sockets strongswan libreswan openiked; do . scripts/compare/$part.sh; done

SECRET='open sesame, as the warrior says'
GCM='enc aes-128-gcm prf hmac-sha2-256 group'
# By scenario: psk, ecdsa-p256 or rsa-2048; the suites in the words of iked.conf(5); who is compared beside iked;
# the flood's requests in a second, if there is one.
declare -A AUTH_OF IKE_OF CHILD_OF WITH_OF FLOOD_OF
scenario() { # NAME AUTH GROUP CHILD RESPONDERS [REQUESTS PEERS RATE]
  AUTH_OF[$1]=$2 IKE_OF[$1]="$GCM $3" CHILD_OF[$1]=$4 WITH_OF[$1]=$5 FLOOD_OF[$1]=${6-}
  local auth="method = \"certificate\"
key = \"$2\"" arrival='window = 32'
  [ "$2" != psk ] || auth="method = \"psk\"
secret = \"$SECRET\""
  # Whoever is not in soon after the last one came stays outside.
  [ -z "${6-}" ] || arrival="rate = $8
patience = 10
[flood]
requests = $6.0
from = \"10.112.0.0/12\"
answers_by = \"astray\""
  cat >"$DIR/$1.toml" <<CONF
[peers]
count = ${7-$PEERS}
sources = "10.64.0.0/16"
[responder]
address = "192.0.2.1"
identity = "gateway.example"
network = "10.8.0.0/24"
[auth]
$auth
[suite]
ike = "${IKE_OF[$1]}"
child = "$4"
[arrival]
$arrival
CONF
  mkdir -p "$DIR/$1"
  [ "$2" = psk ] || "$BIN/ikeload" "$DIR/$1.toml" --write-credentials "$DIR/$1"
}
scenario psk psk curve25519 'enc aes-128-gcm' 'strongswan libreswan'
scenario ecdsa ecdsa-p256 curve25519 'enc aes-128-gcm' strongswan
scenario rsa rsa-2048 curve25519 'enc aes-128-gcm' strongswan
# The same peers once more: what they cost the second time.
scenario ecdsa-again ecdsa-p256 curve25519 'enc aes-128-gcm' strongswan
scenario rsa-again rsa-2048 curve25519 'enc aes-128-gcm' strongswan
# The only kind of ESP that OpenIKED offers on Linux.
scenario psk-ecp256 psk ecp256 'enc aes-128 auth hmac-sha2-512' openiked
# Two peers, five seconds one after the other, are how long the flood lasts.
scenario flood-20k psk curve25519 'enc aes-128-gcm' strongswan-5.9.8 20000 2 0.2
scenario flood-100k psk curve25519 'enc aes-128-gcm' strongswan-5.9.8 100000 2 0.2
scenario flood-beside psk curve25519 'enc aes-128-gcm' strongswan-5.9.8 100000 5000 500.0

# Who is compared in a scenario, iked first, which all others are measured by.
responders_of() { # SCENARIO
  local responder kind
  echo iked
  case $1 in flood-beside) ;; flood*) echo sockets ;; *) echo primitives ;; esac
  for responder in $RESPONDERS; do
    for kind in ${WITH_OF[$1]}; do
      [[ $responder != "$kind"* ]] || echo "$responder"
    done
  done
}

load() { # SCENARIO SEED [ikeload's other arguments]
  local scenario=$1 seed=$2
  shift 2
  # Whoever is not let in counts as lost, and is in the table.
  ip netns exec "$LOAD" taskset -c $(($(nproc) > 1)) "$BIN/ikeload" "$DIR/$scenario.toml" --seed "$seed" "$@" \
    >"$DIR/table" || cat "$DIR/table" >&2
}

run() { # ROUND RESPONDER SCENARIO
  local round=$1 responder=$2 scenario=$3 json=$OUT/$3-$2-$1.json words=() again=()
  [[ $scenario != *-again ]] || again=(--again)
  say "round $round of $ROUNDS: $responder, $scenario"
  RUNS+=("$scenario=$responder=$json")
  if [ "$responder" = primitives ]; then
    taskset -c 0 "$BIN/ikeload-primitives" "$DIR/$scenario.toml" "${again[@]}" --json "$json" >&2
    return
  fi
  "start_${responder%%-*}" "$scenario" "${responder#*-}"
  for pid in $(family "$RESPONDER"); do words+=(--pid "$pid"); done
  [ "${AUTH_OF[$scenario]}" = psk ] || words+=(--credentials "$DIR/$scenario")
  [ ${#again[@]} = 0 ] || load "$scenario" "$((round + ROUNDS))" "${words[@]}"
  load "$scenario" "$round" --json "$json" "${words[@]}"
  end_responder
}

for responder in $RESPONDERS; do
  say "$responder: its folder, and the stand-in for its kernel"
  "prepare_${responder%%-*}" "${responder#*-}"
done
RUNS=()
for round in $(seq "$ROUNDS"); do
  for scenario in $SCENARIOS; do
    for responder in $(responders_of "$scenario"); do
      run "$round" "$responder" "$scenario"
    done
  done
done
"$BIN/ikeload-compare" --commit "$COMMIT" --json "$OUT/compare.json" --html "$OUT/compare.html" \
  --summary "$DIR/summary" "${RUNS[@]}" | tee "$DIR/figures"
say "$OUT/compare.html has the picture, $OUT/compare.json the figures"
if [ "${1:-}" = write ]; then
  scripts/between.sh benches/README.md compare <"$DIR/figures"
  scripts/between.sh README.md compare <"$DIR/summary"
fi

#!/bin/bash
# compare.sh [write] - this tree's iked and strongSwan, one after the other in turns, as responder to the
# same peers of ikeload: what an IKE SA costs each. The table is printed, with JSON and a page with a picture
# in target/compare; `write` puts it into benches/README.md too, where it is said how it is to be read.
# Needs root, and the packages of `scripts/deps.sh compare`.
# Environment: IKED_COMPARE_ROUNDS (default 3), IKED_COMPARE_PEERS (default 4000),
# IKED_COMPARE_BIN (folder of the binaries; default: those of a release, built first).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin" LC_ALL=C
README=benches/README.md
START='<!-- compare -->' END='<!-- end of compare -->'
ROUNDS=${IKED_COMPARE_ROUNDS:-3} PEERS=${IKED_COMPARE_PEERS:-4000}
OUT=target/compare
say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
BIN=${IKED_COMPARE_BIN-}
[ -n "$BIN" ] || { cargo build --locked --release --workspace --bins >&2; BIN=target/release; }
for program in charon-systemd swanctl cc taskset; do
  command -v $program >/dev/null || { echo "$program is missing: scripts/deps.sh compare" >&2; exit 1; }
done
COMMIT=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- src loadtest || COMMIT="$COMMIT with changes"
mkdir -p "$OUT"
. scripts/load-hosts.sh

# scenario NAME METHOD: what all peers do; the responder's files for it in $DIR/NAME.
scenario() {
  cat >"$DIR/$1.toml" <<EOF
[peers]
count = $PEERS
sources = "10.64.0.0/16"
[responder]
address = "192.0.2.1"
identity = "gateway.example"
network = "10.8.0.0/24"
[auth]
$2
[suite]
ike = "enc aes-128-gcm prf hmac-sha2-256 group curve25519"
child = "enc aes-128-gcm"
[arrival]
window = 32
EOF
  mkdir -p "$DIR/$1"
  [ "$1" = psk ] || "$BIN/ikeload" "$DIR/$1.toml" --write-credentials "$DIR/$1"
}

# iked SCENARIO
start_iked() {
  local auth=signature
  [ "$1" != psk ] || auth='psk "open sesame"'
  cat >"$DIR/iked.conf" <<EOF
set decouple
ikev2 "load" passive esp from 10.8.0.0/24 to dynamic local any peer any srcid gateway.example \
  $auth config address 10.128.0.0/9
EOF
  chmod 600 "$DIR/iked.conf"
  ip netns exec "$GW" taskset -c 0 "$BIN/iked" -d -f "$DIR/iked.conf" -s "$DIR/iked.sock" \
    --config-dir "$DIR/$1" --shards 1 >"$DIR/iked.log" 2>&1 &
  RESPONDER=$!
  wait_for "$DIR/iked.log" "$BIN/ikectl" -s "$DIR/iked.sock" show stats
}

# What strongswan.conf(5) and swanctl.conf(5) have for many peers: threads, hash tables that fit, OpenSSL before all
# else, no log, no cookies (there would be one for everybody), no look whether a peer is there already.
start_strongswan() {
  local home=$DIR/strongswan auth='auth = pubkey' certs='certs = gateway.pem'
  [ "$1" != psk ] || { auth='auth = psk'; certs=; }
  rm -rf "$home"
  mkdir -p "$home"/{private,x509,x509ca}
  if [ "$1" != psk ]; then
    cp "$DIR/$1/private/local.key" "$home/private/"
    cp "$DIR/$1/certs/gateway.pem" "$home/x509/"
    cp "$DIR/$1/ca/root.pem" "$home/x509ca/"
  fi
  cat >"$home/strongswan.conf" <<EOF
charon-systemd {
  load = openssl random nonce hmac kdf pem pkcs1 pkcs8 pubkey x509 fake-kernel kernel-netlink socket-default vici
  threads = 16
  ikesa_table_size = 8192
  ikesa_table_segments = 16
  dos_protection = no
  install_routes = no
  install_virtual_ip = no
  journal { default = -1 }
  plugins { vici { socket = unix://$home/vici } }
}
swanctl { load = pem pkcs1 pkcs8 x509 openssl }
EOF
  cat >"$home/swanctl.conf" <<EOF
connections { load {
  version = 2
  local_addrs = 192.0.2.1
  proposals = aes128gcm16-prfsha256-x25519
  pools = load
  unique = never
  rekey_time = 0
  local { $auth
    $certs
    id = gateway.example }
  remote { $auth }
  children { net { local_ts = 10.8.0.0/24
    esp_proposals = aes128gcm16
    rekey_time = 0 } }
} }
pools { load { addrs = 10.128.0.0/9 } }
secrets { ike-load { secret = "open sesame" } }
EOF
  STRONGSWAN_CONF=$home/strongswan.conf SWANCTL_DIR=$home ip netns exec "$GW" taskset -c 0 \
    env LD_PRELOAD="$FAKE" charon-systemd >"$home/log" 2>&1 &
  RESPONDER=$!
  swan() { STRONGSWAN_CONF=$home/strongswan.conf SWANCTL_DIR=$home swanctl "$@" --uri "unix://$home/vici"; }
  wait_for "$home/log" swan --stats
  swan --load-all --file "$home/swanctl.conf" >"$home/load" 2>&1 || { cat "$home/load" >&2; return 1; }
}

run() {
  local round=$1 responder=$2 scenario=$3 credentials=()
  say "round $round of $ROUNDS: $responder, $scenario"
  "start_$responder" "$scenario"
  [ "$scenario" = psk ] || credentials=(--credentials "$DIR/$scenario")
  # Whoever is not let in counts as lost, and is in the table.
  ip netns exec "$LOAD" taskset -c $(($(nproc) > 1)) "$BIN/ikeload" "$DIR/$scenario.toml" --seed "$round" \
    --pid "$RESPONDER" --json "$OUT/$scenario-$responder-$round.json" "${credentials[@]}" >"$DIR/table" ||
    cat "$DIR/table" >&2
  end_responder
  RUNS+=("$scenario=$responder=$OUT/$scenario-$responder-$round.json")
}

say "the stand-in for strongSwan's kernel"
FAKE=$(tests/interop/plugin.sh fake-kernel)
scenario psk 'method = "psk"
secret = "open sesame"'
scenario ecdsa 'method = "certificate"
key = "ecdsa-p256"'
scenario rsa 'method = "certificate"
key = "rsa-2048"'
RUNS=()
for round in $(seq "$ROUNDS"); do
  for scenario in psk ecdsa rsa; do
    for responder in iked strongswan; do
      run "$round" $responder $scenario
    done
  done
done
"$BIN/ikeload-compare" --commit "$COMMIT" --json "$OUT/compare.json" --html "$OUT/compare.html" "${RUNS[@]}" |
  tee "$DIR/figures"
say "$OUT/compare.html has the picture, $OUT/compare.json the figures"
if [ "${1:-}" = write ]; then
  awk -v start="$START" -v end="$END" -v figures="$DIR/figures" '
    $0 == end { inside = 0 }
    !inside { print }
    $0 == start { inside = 1; print ""; while ((getline line < figures) > 0) print line; print "" }
  ' "$README" >"$README.new"
  mv "$README.new" "$README"
fi

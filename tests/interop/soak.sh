#!/bin/bash
# soak.sh - the long run, no part of `make test`: strongSwan rekeys its Child SA every 30 s, iked the
# IKE SA about as often, while pings go through the tunnel. Fails if a ping is lost, if either kernel
# keeps more SAs or other policies than at the start, or if iked grows.
#   tests/interop/soak.sh [MINUTES]      default 60; for an hour in the background:
#   nohup tests/interop/soak.sh >/tmp/soak.log 2>&1 &
# Needs target/debug/iked and ikectl (cargo build --locked), of which it takes copies first, so later
# builds do not disturb it. Runs under tests/kernel/rig.sh, a guest of its own.
# Environment: IKED_RIG_BACKEND (default uml), IKED_SOAK_BIN (folder of the binaries).
set -u
cd "$(dirname "$0")/../.." || exit 1
MINUTES=${1:-60} EVERY=30

if [ -z "${IKED_SOAK_INSIDE-}" ]; then
  [ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
  COPY=$(mktemp -d /tmp/iked-soak.XXXXXX) || exit 1
  trap 'rm -rf "$COPY"' EXIT
  cp "${IKED_SOAK_BIN:-target/debug}"/{iked,ikectl} tests/interop/soak.sh "$COPY/" || exit 1
  tests/kernel/rig.sh -b "${IKED_RIG_BACKEND:-uml}" -m 512 -t $((MINUTES * 90 + 300)) \
    "IKED_SOAK_INSIDE=$COPY bash $COPY/soak.sh $MINUTES"
  exit
fi

# ------------------------------------------------------------------------------- inside the guest
BIN=$IKED_SOAK_INSIDE D=/tmp/soak
mkdir -p $D && cd $D || exit 1
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() { say "FAILED: $*"; FAILED=1; }
FAILED=
ip -batch - <<B
netns add gw
netns add rw
link add wan netns gw type veth peer name wan netns rw
B
ip -n gw -batch - <<B
link set lo up
addr add 192.0.2.1/24 dev wan
addr add 10.8.0.1/24 dev lo
link set wan up
route add default dev wan
B
ip -n rw -batch - <<B
link set lo up
addr add 192.0.2.2/24 dev wan
link set wan up
B
# 33 s: the rekey is drawn between 85 and 95 percent of it.
cat > iked.conf <<C
ikev2 "soak" passive esp from 10.8.0.0/24 to dynamic local any peer any \\
  ikesa enc aes-256-gcm prf hmac-sha2-256 group curve25519 \\
  childsa enc aes-256-gcm group curve25519 \\
  srcid gateway.example dstid warrior.example ikelifetime $((EVERY * 11 / 10)) \\
  psk "a secret of the tests" config address 10.9.0.7
C
cat > strongswan.conf <<C
charon-systemd {
  load = random nonce openssl aes sha1 sha2 hmac kdf curve25519 gcm pem pkcs1 pkcs8 pubkey vici kernel-netlink socket-default updown
  plugins { vici { socket = unix://$D/vici
  } }
}
swanctl { load =
  plugins { vici { socket = unix://$D/vici
  } }
}
C
cat > swanctl.conf <<C
connections { home { version = 2
  remote_addrs = 192.0.2.1
  proposals = aes256gcm16-prfsha256-x25519
  vips = 0.0.0.0
  rekey_time = 0
  local { auth = psk
    id = warrior.example
  }
  remote { auth = psk
    id = gateway.example
  }
  children { net { esp_proposals = aes256gcm16-x25519
    remote_ts = 10.8.0.0/24
    rekey_time = ${EVERY}s
    rand_time = 2s
    life_time = $((EVERY * 4))s
  } }
} }
secrets { ike-home { secret = "a secret of the tests"
} }
C
chmod 600 iked.conf
export STRONGSWAN_CONF=$D/strongswan.conf
ip netns exec gw "$BIN/iked" -d -f iked.conf -s iked.sock --config-dir $D >iked.log 2>&1 & IKED=$!
ip netns exec rw charon-systemd >charon.log 2>&1 & CHARON=$!
trap 'kill $IKED $CHARON 2>/dev/null' EXIT
swan() { ip netns exec rw swanctl "$@" --uri unix://$D/vici; }
for _ in $(seq 100); do swan --stats >/dev/null 2>&1 && break; sleep 0.3; done
swan --load-all --file swanctl.conf >/dev/null || { fail "charon takes no connection"; exit 1; }
swan --initiate --child net --timeout 25 >swan.log || { fail "no connection"; cat swan.log iked.log; exit 1; }

stat() { "$BIN/ikectl" -s iked.sock show stats | sed -n "s/^[[:space:]]*\([0-9]*\) $1.*/\1/p" | head -n 1; }
states() { ip -n "$1" xfrm state | grep -c 'proto esp'; }
policies() { ip -n "$1" xfrm policy | grep -c 'tmpl'; }
rss() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' /proc/$IKED/status; }
sample() {
  R=$(rss)
  say "minute $1: SAs $(states gw)/$(states rw), policies $(policies gw)/$(policies rw), rekeyed $(stat 'IKE SAs* rekeyed') IKE $(stat 'Child SAs* created') Child, RSS $R KiB"
}
POLICIES="$(policies gw)/$(policies rw)"
[ "$(states gw)/$(states rw)" = 2/2 ] || fail "more than one Child SA at the start"
COUNT=$((MINUTES * 60 * 4))
ip netns exec rw ping -q -n -c $COUNT -i 0.25 -W 20 10.8.0.1 >ping.log 2>&1 & PING=$!
sample 0
BASE=
for minute in $(seq "$MINUTES"); do
  sleep 60
  sample "$minute"
  # Caches and the allocator have settled by then.
  [ "$minute" -gt $(((MINUTES + 9) / 10)) ] && [ -z "$BASE" ] && BASE=$R
  [ "$(states gw)" -le 6 ] && [ "$(states rw)" -le 6 ] || fail "SAs pile up"
  [ "$(policies gw)/$(policies rw)" = "$POLICIES" ] || fail "policies were $POLICIES"
done
wait $PING
cat ping.log
grep -q "^$COUNT packets transmitted, $COUNT received, 0% packet loss" ping.log || fail "pings lost"
for _ in $(seq 40); do [ "$(states gw)/$(states rw)" = 2/2 ] && break; sleep 0.5; done
[ "$(states gw)/$(states rw)" = 2/2 ] || { fail "SAs left over"; ip -n gw xfrm state; }
[ "$(stat 'IKE SAs* currently established')" = 1 ] || fail "more than one IKE SA"
[ "$(stat 'IKE SAs* rekeyed')" -ge $((MINUTES * 3 / 2)) ] || fail "too few rekeys of the IKE SA"
[ "$(stat 'Child SAs* created')" -ge $((MINUTES * 3)) ] || fail "too few rekeys of the Child SA"
R=$(rss)
say "RSS $R KiB, after the first tenth ${BASE:-$R}"
[ "$R" -le $((${BASE:-$R} + 512)) ] || fail "iked has grown"
"$BIN/ikectl" -s iked.sock show stats
if [ -n "$FAILED" ]; then tail -n 40 iked.log; exit 1; fi
say "passed: $MINUTES minutes"

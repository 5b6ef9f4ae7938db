#!/bin/bash
# demo-scene.sh - gateway and road warrior in two network namespaces, on a kernel that has ESP.
# Called by demo.sh, with IKED and IKECTL naming the programs.
set -eu
GATEWAY=iked-demo-gw CLIENT=iked-demo-rw
DIR=$(mktemp -d)
PIDS=()
cleanup() {
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  ip netns del $GATEWAY 2>/dev/null || true
  ip netns del $CLIENT 2>/dev/null || true
  rm -rf "$DIR"
}
trap cleanup EXIT
head_line() { printf '\n\033[1m--- %s\033[0m\n' "$1"; }
fail() { echo "FAILED: $1" >&2; cat "$DIR"/*.log >&2 || true; exit 1; }
wait_for() { # seconds, what, command..
  local limit=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $limit ] || fail "$what"; sleep 0.2; done
}

ip netns add $GATEWAY; ip netns add $CLIENT
ip link add demo-gw netns $GATEWAY type veth peer name demo-rw netns $CLIENT
ip -n $GATEWAY addr add 192.0.2.1/24 dev demo-gw
ip -n $GATEWAY addr add 10.8.0.1/32 dev lo
ip -n $CLIENT addr add 192.0.2.2/24 dev demo-rw
for name in $GATEWAY $CLIENT; do ip -n $name link set lo up; done
ip -n $GATEWAY link set demo-gw up; ip -n $CLIENT link set demo-rw up
ip -n $GATEWAY route add default via 192.0.2.2

cat > "$DIR/iked.conf" <<X
ikev2 "roadwarrior" passive esp \\
	from 10.8.0.0/24 to dynamic \\
	peer any \\
	srcid gateway.example \\
	psk "a secret of the demo" \\
	config address 10.9.0.0/24
X
chmod 600 "$DIR/iked.conf"
head_line "iked.conf of the gateway"
cat "$DIR/iked.conf"

ip netns exec $GATEWAY "$IKED" -d -f "$DIR/iked.conf" -s "$DIR/iked.sock" --config-dir "$DIR" > "$DIR/iked.log" 2>&1 &
PIDS+=($!)
cat > "$DIR/strongswan.conf" <<X
charon-systemd {
  load = random nonce openssl aes sha1 sha2 hmac kdf curve25519 gcm vici kernel-netlink socket-default
  plugins { vici { socket = unix://$DIR/vici } }
}
swanctl { load =
  plugins { vici { socket = unix://$DIR/vici } } }
X
cat > "$DIR/swanctl.conf" <<X
connections { demo {
  version = 2
  remote_addrs = 192.0.2.1
  proposals = aes256gcm16-prfsha256-x25519
  vips = 0.0.0.0
  local { auth = psk
    id = warrior.example }
  remote { auth = psk
    id = gateway.example }
  children { net {
    remote_ts = 10.8.0.0/24
    esp_proposals = aes256gcm16 } } } }
secrets { ike-demo { secret = "a secret of the demo" } }
X
export STRONGSWAN_CONF="$DIR/strongswan.conf"
ip netns exec $CLIENT charon-systemd > "$DIR/charon.log" 2>&1 &
PIDS+=($!)
VICI="--uri unix://$DIR/vici"
wait_for 20 "the control socket of iked" test -S "$DIR/iked.sock"
wait_for 20 "strongSwan" ip netns exec $CLIENT swanctl --stats $VICI
ip netns exec $CLIENT swanctl --load-all --file "$DIR/swanctl.conf" $VICI > /dev/null 2>&1 || fail "swanctl --load-all"

head_line "strongSwan initiates"
ip netns exec $CLIENT swanctl --initiate --child net $VICI > "$DIR/initiate.log" 2>&1 || fail "the road warrior did not get in"
grep -E 'selected proposal|virtual IP|established' "$DIR/initiate.log"
head_line "the log of iked"
cat "$DIR/iked.log"
head_line "ikectl show sa"
"$IKECTL" -s "$DIR/iked.sock" show sa
ADDRESS=$(ip -n $CLIENT -4 -o addr show | sed -n 's/.* inet \(10\.9\.0\.[0-9]*\).*/\1/p' | head -n 1)
head_line "the address the client was assigned: $ADDRESS"
[ -n "$ADDRESS" ] || fail "no address assigned"
head_line "a ping through the tunnel"
ip netns exec $CLIENT ping -c 3 -i 0.3 -W 2 -I "$ADDRESS" 10.8.0.1 || fail "no answer through the tunnel"
head_line "the gateway's ESP counters (ip -s xfrm state)"
ip netns exec $GATEWAY ip -s xfrm state | awk '/^src/ { print } /proto esp/ { print } /bytes\), [0-9]+\(packets/ { print "\tlifetime current:" $0 }'
ip netns exec $GATEWAY ip -s xfrm state | grep -Eq '[1-9][0-9]*\(bytes\), [1-9][0-9]*\(packets\)' || fail "no packet went through ESP"
head_line "the client says goodbye"
ip netns exec $CLIENT swanctl --terminate --ike demo $VICI > /dev/null 2>&1 || fail "terminate"
tail -n 1 "$DIR/iked.log"
LEFT=$(ip netns exec $GATEWAY ip xfrm state | grep -c '^src' || true)
echo "SAs left in the gateway's kernel: $LEFT"
[ "$LEFT" = 0 ] || fail "SAs left behind"

# iked.sh - sourced by compare.sh: this tree's iked, one shard, nothing in the kernel beside UDP.
start_iked() { # SCENARIO
  local auth=signature
  [ "${AUTH_OF[$1]}" != psk ] || auth="psk \"$SECRET\""
  cat >"$DIR/iked.conf" <<CONF
set decouple
ikev2 "load" passive esp from 10.8.0.0/24 to dynamic local any peer any \
  ikesa ${IKE_OF[$1]} childsa ${CHILD_OF[$1]} srcid gateway.example $auth config address 10.128.0.0/9
CONF
  chmod 600 "$DIR/iked.conf"
  ip netns exec "$GW" taskset -c 0 "$BIN/iked" -d -f "$DIR/iked.conf" -s "$DIR/iked.sock" \
    --config-dir "$DIR/$1" --shards 1 >"$DIR/iked.log" 2>&1 &
  RESPONDER=$!
  wait_for "$DIR/iked.log" "$BIN/ikectl" -s "$DIR/iked.sock" show stats
}

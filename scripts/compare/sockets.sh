# sockets.sh - sourced by compare.sh: the sockets of iked without iked behind them (`ikeload-sockets`), the floor of a flood.
start_sockets() { # SCENARIO
  ip netns exec "$GW" taskset -c 0 "$BIN/ikeload-sockets" 192.0.2.1 >"$DIR/sockets.log" 2>&1 &
  RESPONDER=$!
  wait_for "$DIR/sockets.log" sh -c "ip netns exec $GW ss -Hlnu 'sport = :500' | grep -q ."
}

# load-hosts.sh - sourced by load.sh and compare.sh: two network namespaces, $GW for a responder (192.0.2.1,
# alone with it) and $LOAD for ikeload, to which all of 10.64.0.0/10 belongs, 10.112.0.0/12 of that for floods; and an
# empty folder, $DIR.
# All that goes at the end, with the responder's process, $RESPONDER, if there is one, and its children.
[ "$(id -u)" = 0 ] || { echo "$0 needs root for its network namespaces" >&2; exit 1; }
GW=ikl-gw-$$ LOAD=ikl-in-$$ RESPONDER=
DIR=$(mktemp -d /tmp/ikeload.XXXXXX)
end_responder() {
  [ -n "$RESPONDER" ] || return 0
  local family; family=$(family "$RESPONDER")
  # It has two seconds; a peer that says goodbye to thousands takes longer.
  kill "$RESPONDER" 2>/dev/null || true
  for _ in $(seq 40); do
    kill -0 "$RESPONDER" 2>/dev/null || break
    sleep 0.05
  done
  # shellcheck disable=SC2086
  kill -KILL $family 2>/dev/null || true
  wait "$RESPONDER" 2>/dev/null || true
  RESPONDER=
  # Its ports are free when the last of them is gone.
  for _ in $(seq 40); do
    # shellcheck disable=SC2086
    kill -0 $family 2>/dev/null || break
    sleep 0.05
  done
}
# family PID: that process and all that come from it.
family() {
  local child
  echo "$1"
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do family "$child"; done
}
cleanup() {
  end_responder
  ip netns delete "$GW" 2>/dev/null || true
  ip netns delete "$LOAD" 2>/dev/null || true
  rm -rf "$DIR"
}
trap cleanup EXIT
ip netns add "$GW"
ip netns add "$LOAD"
ip link add wan netns "$GW" type veth peer name wan netns "$LOAD"
ip -n "$GW" addr add 192.0.2.1/24 dev wan
ip -n "$LOAD" addr add 192.0.2.2/24 dev wan
for ns in "$GW" "$LOAD"; do
  ip -n "$ns" link set lo up
  ip -n "$ns" link set wan up
done
# What is sent to the peers is taken in by the last CPU, where they are: it is no work of a responder's.
if [ "$(nproc)" -gt 1 ]; then
  ip netns exec "$LOAD" sh -c 'printf %x "$1" >/sys/class/net/wan/queues/rx-0/rps_cpus' sh $((1 << ($(nproc) - 1)))
fi
# Every address of the peers' network is one of the load generator's own.
ip -n "$LOAD" route add local 10.64.0.0/10 dev lo
ip -n "$GW" route add 10.64.0.0/10 via 192.0.2.2
# What is sent to the strangers of a flood leaves the responder's host by a device that throws it away: whoever
# writes another's address never sees the answer, and a veth would have its sender pay for its being received.
ip -n "$GW" link add astray type dummy 2>/dev/null || ip -n "$GW" link add astray type ifb
ip -n "$GW" link set astray addrgenmode none up
ip -n "$GW" route add 10.112.0.0/12 via 192.0.3.2 dev astray onlink
# Their requests do not come from where the answers go.
ip netns exec "$GW" sh -c 'echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/wan/rp_filter'
# wait_for LOG COMMAND: until the command succeeds; the responder's log if it has ended before.
wait_for() {
  local log=$1; shift
  for _ in $(seq 400); do
    "$@" >/dev/null 2>&1 && return
    kill -0 "$RESPONDER" 2>/dev/null || break
    sleep 0.05
  done
  cat "$log" >&2
  return 1
}

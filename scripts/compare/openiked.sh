# openiked.sh - sourced by compare.sh: OpenIKED for Linux from its folder, with the stand-in for its PF_KEY.
prepare_openiked() { # VERSION
  ROOT_OF[openiked-$1]=$(tests/interop/peers.sh "openiked-$1")
  build_fake_sadb
}

start_openiked() { # SCENARIO VERSION
  local home=$DIR/openiked
  rm -rf "$home"
  mkdir -p "$home"/etc/{ca,certs,crls,private,pubkeys/fqdn}
  # It does not start without a key, whether or not it needs one.
  openssl ecparam -name prime256v1 -genkey -noout -out "$home/etc/private/local.key"
  cat >"$home/iked.conf" <<CONF
ikev2 "load" passive esp from 10.8.0.0/24 to dynamic local any peer any \
  ikesa ${IKE_OF[$1]} childsa ${CHILD_OF[$1]} srcid gateway.example psk "$SECRET" config address 10.128.0.0/9
CONF
  chmod 600 "$home/iked.conf"
  LD_PRELOAD=$FAKE_SADB in_root "${ROOT_OF[openiked-$2]}" "$home/etc:etc/iked" \
    /usr/sbin/iked -d -f "$home/iked.conf" -s "$home/sock" >"$home/log" 2>&1 &
  RESPONDER=$!
  wait_for "$home/log" beside_responder /usr/sbin/ikectl -s "$home/sock" show sa
  # It answers before it is ready, and then drops what has begun meanwhile.
  sleep 1
}

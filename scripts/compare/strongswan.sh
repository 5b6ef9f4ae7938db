# strongswan.sh - sourced by compare.sh: Debian's charon, 5.9.8 as installed and 6.0.1 from its folder, with what
# strongswan.conf(5) and swanctl.conf(5) have for many peers: threads, hash tables that fit, OpenSSL before all
# else, no log, no look whether a peer is there already, and no cookies but against a flood (there would be one for
# everybody). The kernel is the stand-in of its own load tester.
prepare_strongswan() { # VERSION
  local root
  FAKE_KERNEL[$1]=$(tests/interop/plugin.sh fake-kernel "$1")
  [ "$1" != 5.9.8 ] || return 0
  root=$(tests/interop/peers.sh "strongswan-$1")
  # Its folder of plugins with the stand-in beside them.
  cp -r "$root/usr/lib/ipsec/plugins" "$DIR/plugins-$1"
  cp "${FAKE_KERNEL[$1]}" "$DIR/plugins-$1/"
  ROOT_OF[strongswan-$1]=$root
}

start_strongswan() { # SCENARIO VERSION
  local home=$DIR/strongswan
  write_strongswan "$1" "$home"
  export STRONGSWAN_CONF=$home/strongswan.conf SWANCTL_DIR=$home
  if [ "$2" = 5.9.8 ]; then
    ip netns exec "$GW" taskset -c 0 env LD_PRELOAD="${FAKE_KERNEL[$2]}" charon-systemd >"$home/log" 2>&1 &
    swan() { swanctl "$@" --uri "unix://$home/vici"; }
  else
    in_root "${ROOT_OF[strongswan-$2]}" "$DIR/plugins-$2:usr/lib/ipsec/plugins" \
      /usr/sbin/charon-systemd >"$home/log" 2>&1 &
    swan() { beside_responder /usr/sbin/swanctl "$@" --uri "unix://$home/vici"; }
  fi
  RESPONDER=$!
  wait_for "$home/log" swan --stats
  swan --load-all --file "$home/swanctl.conf" >"$home/load" 2>&1 || { cat "$home/load" >&2; return 1; }
  export -n STRONGSWAN_CONF SWANCTL_DIR
}

write_strongswan() { # SCENARIO FOLDER
  local home=$2 auth='auth = pubkey' certs='certs = gateway.pem' cookies=no
  [ "${AUTH_OF[$1]}" != psk ] || { auth='auth = psk'; certs=; }
  [ -z "${FLOOD_OF[$1]-}" ] || cookies=yes
  rm -rf "$home"
  mkdir -p "$home"/{private,x509,x509ca}
  if [ -n "$certs" ]; then
    cp "$DIR/$1/private/local.key" "$home/private/"
    cp "$DIR/$1/certs/gateway.pem" "$home/x509/"
    cp "$DIR/$1/ca/root.pem" "$home/x509ca/"
  fi
  cat >"$home/strongswan.conf" <<CONF
charon-systemd {
  load = openssl random nonce hmac kdf pem pkcs1 pkcs8 pubkey x509 fake-kernel kernel-netlink socket-default vici
  threads = 16
  ikesa_table_size = 8192
  ikesa_table_segments = 16
  dos_protection = $cookies
  install_routes = no
  install_virtual_ip = no
  journal { default = -1 }
  plugins { vici { socket = unix://$home/vici } }
}
swanctl { load = pem pkcs1 pkcs8 x509 openssl }
CONF
  cat >"$home/swanctl.conf" <<CONF
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
secrets { ike-load { secret = "$SECRET" } }
CONF
}

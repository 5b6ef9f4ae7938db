# libreswan.sh - sourced by compare.sh: libreswan's pluto from its folder, with the stand-in for its NETLINK_XFRM, and
# with no script for each Child SA.
prepare_libreswan() { # VERSION
  ROOT_OF[libreswan-$1]=$(tests/interop/peers.sh "libreswan-$1")
  build_fake_sadb
}

start_libreswan() { # SCENARIO VERSION
  local home=$DIR/libreswan root=${ROOT_OF[libreswan-$2]}
  rm -rf "$home"
  mkdir -p "$home"/{nss,run}
  cat >"$home/ipsec.conf" <<CONF
config setup
 nssdir=$home/nss
 ipsecdir=$home
 dumpdir=$home
 secretsfile=$home/secrets
 logtime=no
 uniqueids=no
 ddos-mode=unlimited
conn load
 ikev2=insist
 authby=secret
 left=192.0.2.1
 leftid=@gateway.example
 leftsubnet=10.8.0.0/24
 leftupdown=%disabled
 right=%any
 rightaddresspool=10.128.0.0-10.191.255.255
 modecfgpull=yes
 ike=aes_gcm128-sha2_256-dh31
 esp=aes_gcm128
 rekey=no
 auto=add
CONF
  echo ": PSK \"$SECRET\"" >"$home/secrets"
  ( in_root "$root" "" /usr/bin/certutil -N --empty-password -d "sql:$home/nss" ) >"$home/certutil" 2>&1
  LD_PRELOAD=$FAKE_SADB in_root "$root" '' /usr/libexec/ipsec/pluto --config "$home/ipsec.conf" --rundir "$home/run" \
    --nofork --stderrlog --no-dnssec >"$home/log" 2>&1 &
  RESPONDER=$!
  wait_for "$home/log" grep -q 'loading secrets from' "$home/log"
  beside_responder /usr/libexec/ipsec/addconn --config "$home/ipsec.conf" --ctlsocket "$home/run/pluto.ctl" load \
    >"$home/addconn" 2>&1 || { cat "$home/addconn" "$home/log" >&2; return 1; }
}

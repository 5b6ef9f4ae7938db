#!/bin/bash
# selftest.sh - run inside the rig: has this kernel what the tests take for granted?
FAILED=0
ok() { # name command..
  if "${@:2}" >/tmp/selftest.out 2>&1; then echo "ok   $1"; return; fi
  FAILED=1; echo "FAIL $1"; sed 's/^/     /' /tmp/selftest.out | tail -n 3
}
sa() { # algorithm words: an SA on the loopback address, added and deleted
  ip xfrm state add src 127.0.0.1 dst 127.0.0.1 proto "${P:-esp}" spi 0x1001 mode tunnel "$@" &&
    ip xfrm state delete src 127.0.0.1 dst 127.0.0.1 proto "${P:-esp}" spi 0x1001
}
K20=0x000102030405060708090a0b0c0d0e0f10111213
K36=0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
K32=${K36:0:66}
ok 'XFRM socket' perl -e 'socket(my $s, 16, 3, 6) or die $!'
ok 'PF_KEY socket' perl -e 'socket(my $s, 15, 3, 2) or die $!'
ok 'ESP with AES-GCM' sa aead 'rfc4106(gcm(aes))' $K20 128
ok 'ESP with ChaCha20-Poly1305' sa aead 'rfc7539esp(chacha20,poly1305)' $K36 128
ok 'ESP with AES-CBC and HMAC-SHA2-256' sa enc 'cbc(aes)' $K32 auth-trunc 'hmac(sha256)' $K32 128
P=ah ok 'AH with HMAC-SHA1' sa auth-trunc 'hmac(sha1)' $K20 96
ok 'network namespaces' bash -c 'ip netns add st && ip netns del st'
ok 'veth' bash -c 'ip link add st0 type veth peer name st1 && ip link del st0'
ok '/dev/net/tun' bash -c 'ip tuntap add dev st2 mode tun && ip link del st2'
exit $FAILED

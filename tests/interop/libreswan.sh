#!/bin/bash
# libreswan.sh - unpacks libreswan and the libraries it needs into a folder of its own and prints
# the folder's name. As a package it conflicts with strongSwan, so it is never installed.
#   tests/interop/libreswan.sh
# Environment: IKED_INTEROP_CACHE (default ${XDG_CACHE_HOME:-/var/cache}/iked-interop).
set -eu
CACHE=${IKED_INTEROP_CACHE:-${XDG_CACHE_HOME:-/var/cache}/iked-interop}
ROOT=$CACHE/libreswan
PACKAGES="libreswan libldns3 libevent-core-2.1-7 libevent-pthreads-2.1-7 libunbound8 libnss3 libnspr4
  libnss3-tools libcurl3-nss libldap-2.5-0 libcap-ng0 libaudit1 libsasl2-2 librtmp1 libssh2-1 libpsl5
  libnghttp2-14 libsqlite3-0"
mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9
if [ ! -e "$ROOT/ok" ]; then
  work=$ROOT.$$
  trap 'rm -rf "$work"' EXIT
  rm -rf "$work"; mkdir -p "$work/debs" "$work/root"
  # shellcheck disable=SC2086
  (cd "$work/debs" && { apt-get download -qq $PACKAGES 2>/dev/null ||
    { apt-get update -qq; apt-get download -qq $PACKAGES; }; }) >&2
  for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
  rm -rf "$ROOT"; mv -T "$work/root" "$ROOT"
  LD_LIBRARY_PATH=$ROOT/usr/lib/$(uname -m)-linux-gnu "$ROOT/usr/libexec/ipsec/pluto" --version >&2
  touch "$ROOT/ok"
fi
echo "$ROOT"

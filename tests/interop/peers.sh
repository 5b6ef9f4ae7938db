#!/bin/bash
# peers.sh - unpacks IKEv2 daemons of Debian, each with every library that it needs (libc too) into a
# folder of its own, for chroot. Nothing is installed, so versions and conflicting packages live
# side by side. Prints the name of the last folder.
#   tests/interop/peers.sh PEER..    strongswan-6.0.1 libreswan-4.10 libreswan-5.2 openiked-7.2 openiked-7.4
#   tests/interop/peers.sh all
# Environment: IKED_INTEROP_CACHE (default ${XDG_CACHE_HOME:-/var/cache}/iked-interop).
set -eu
. "$(dirname "$0")/suite.sh"
CACHE=${IKED_INTEROP_CACHE:-${XDG_CACHE_HOME:-/var/cache}/iked-interop}
ALL="strongswan-6.0.1 libreswan-4.10 libreswan-5.2 openiked-7.2 openiked-7.4"

describe() { # peer: its suite, packages and a command that shows that it runs
  case $1 in
    strongswan-6.0.1) SUITE=trixie PACKAGES="strongswan-swanctl charon-systemd libcharon-extra-plugins
      libcharon-extauth-plugins libstrongswan-standard-plugins libstrongswan-extra-plugins" CHECK="swanctl --help";;
    libreswan-4.10) SUITE=bookworm PACKAGES="libreswan dash" CHECK="/usr/libexec/ipsec/pluto --version";;
    libreswan-5.2) SUITE=trixie PACKAGES="libreswan dash" CHECK="/usr/libexec/ipsec/pluto --version";;
    openiked-7.2) SUITE=bookworm PACKAGES=openiked CHECK="/usr/sbin/iked -V";;
    openiked-7.4) SUITE=trixie PACKAGES=openiked CHECK="/usr/sbin/iked -V";;
    *) echo "no peer $1; there are $ALL" >&2; exit 1;;
  esac
}

unpack() { # peer
  local root=$CACHE/$1 work=$CACHE/$1.$$ part deb
  describe "$1"
  # Unpacked before, and of the same packages.
  [ "$(cat "$root/ok" 2>/dev/null)" != "$PACKAGES" ] || return 0
  apt_for "$SUITE" "$CACHE/apt-$SUITE"
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{debs/partial,root/usr/{bin,sbin,lib,lib64}}
  # shellcheck disable=SC2086
  fetch() { apt-get install -qq -y --download-only -o Dir::Cache::Archives="$work/debs" $PACKAGES; }
  fetch || { apt-get update -qq; fetch; }
  for part in bin sbin lib lib64; do ln -s usr/$part "$work/root/$part"; done
  for deb in "$work"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$work/root"
  done
  mkdir -p "$work/root"/{proc,dev,sys,tmp,run,var/empty,etc/iked/private}
  # What the packages' scripts would have done.
  printf 'root:x:0:0:root:/root:/bin/sh\n_iked:x:900:900::/var/empty:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n' > "$work/root/etc/passwd"
  printf 'root:x:0:\n_iked:x:900:\nnogroup:x:65534:\n' > "$work/root/etc/group"
  # shellcheck disable=SC2086
  chroot "$work/root" $CHECK >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
  printf '%s' "$PACKAGES" > "$work/root/ok"
  rm -rf "$root" "$work/debs"
  mv -T "$work/root" "$root"
  rm -rf "$work"
  trap - EXIT
}

mkdir -p "$CACHE"
CACHE=$(readlink -f "$CACHE")
exec 9>"$CACHE/lock"
flock 9
[ "${1-}" != all ] || set -- $ALL
for peer; do unpack "$peer" >&2; done
echo "$CACHE/$peer"

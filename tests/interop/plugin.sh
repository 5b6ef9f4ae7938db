#!/bin/bash
# plugin.sh - builds a plugin that Debian's charon has not, against the source package of the same
# release, and prints the path of its library. charon takes it up by LD_PRELOAD, or from its folder of plugins,
# and its name below `load`.
#   tests/interop/plugin.sh eap-peap              EAP-PEAP, as strongSwan has it and Debian does not build it
#   tests/interop/plugin.sh fake-kernel [6.0.1]   the stand-in for the kernel of strongSwan's load tester;
#                                                 without a number for 5.9.8
# Environment: IKED_INTEROP_CACHE (default ${XDG_CACHE_HOME:-/var/cache}/iked-interop).
set -eu
VERSION=${2-5.9.8}
case $VERSION in
  5.9.8) SOURCES="debian bookworm";;
  6.0.1) SOURCES="debian-security trixie-security";;
  *) echo "no strongSwan $VERSION" >&2; exit 1;;
esac
HERE=$(cd "$(dirname "$0")" && pwd)
CACHE=${IKED_INTEROP_CACHE:-${XDG_CACHE_HOME:-/var/cache}/iked-interop}
mkdir -p "$CACHE"
HOME_OF=$CACHE/strongswan-source-$VERSION
LIBRARY=$HOME_OF/libstrongswan-${1?a plugin}.so
exec 9>"$CACHE/source.lock"
flock 9

# The headers, and what `configure` finds out for them.
source_tree() {
  local work=$CACHE/source.$$
  [ ! -e "$HOME_OF/ok" ] || return 0
  rm -rf "$work" "$HOME_OF"
  mkdir -p "$work/lists/partial"
  printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/%s main\n' \
    "$SOURCES" >"$work/list"
  ( cd "$work"
    apt=(apt-get -qq -o Dir::Etc::SourceList="$PWD/list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$PWD/lists"
         -o APT::Sandbox::User=root)
    "${apt[@]}" update
    "${apt[@]}" source --download-only strongswan
    tar xf strongswan_$VERSION.orig.tar.bz2
    cd strongswan-$VERSION
    ./configure --disable-defaults --enable-charon --enable-ikev2 ) >"$CACHE/source.log" 2>&1 ||
    { tail -n 20 "$CACHE/source.log" >&2; exit 1; }
  mv "$work/strongswan-$VERSION" "$HOME_OF"
  rm -rf "$work"
  touch "$HOME_OF/ok"
}

build() { # SOURCE..
  cc -O2 -shared -fPIC -include "$HOME_OF/config.h" -I"$HOME_OF/src/libstrongswan" -I"$HOME_OF/src/libcharon" \
    -I"$HOME_OF/src/libtls" -I"$HOME_OF/src/libcharon/plugins/load_tester" -o "$LIBRARY.new" "$@" >&2
  mv "$LIBRARY.new" "$LIBRARY"
}

source_tree
OURS=$HERE/../../scripts/compare/fake_kernel.c
if [ ! "$LIBRARY" -nt "$OURS" ]; then
  case $1 in
    # charon's own libtls is in a folder that the linker does not know.
    eap-peap) build "$HOME_OF"/src/libcharon/plugins/eap_peap/*.c -L/usr/lib/ipsec -Wl,-rpath,/usr/lib/ipsec -l:libtls.so.0;;
    fake-kernel) build "$OURS" "$HOME_OF/src/libcharon/plugins/load_tester/load_tester_ipsec.c";;
    *) echo "no plugin $1" >&2; exit 1;;
  esac
fi
echo "$LIBRARY"

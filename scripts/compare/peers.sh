# peers.sh - sourced by compare.sh: what its responders have in common that live in folders of their own.
declare -A ROOT_OF FAKE_KERNEL

# in_root ROOT FOLDER:PLACE PROGRAM..: in the gateway's namespace, on the first CPU, with another root; FOLDER stands in
# PLACE there. Only the program sees it. Becomes the program: its process is the one that was begun.
in_root() {
  local root=$1 bind=$2 script= part
  shift 2
  # `ip netns exec` gives the program mounts of its own.
  for part in proc dev sys tmp run; do script+="mount --rbind /$part \"\$0/$part\" && "; done
  [ -z "$bind" ] || script+="mount --bind ${bind%:*} \"\$0/${bind#*:}\" && "
  script+='exec chroot "$0" "$@"'
  exec ip netns exec "$GW" taskset -c 0 sh -c "$script" "$root" "$@"
}

# A command that sees what the responder sees, its network and its root.
beside_responder() { nsenter --target "$RESPONDER" --mount --net --root -- "$@"; }

build_fake_sadb() {
  FAKE_SADB=$DIR/fake_sadb.so
  [ -e "$FAKE_SADB" ] || cc -O2 -shared -fPIC -o "$FAKE_SADB" scripts/compare/fake_sadb.c
}

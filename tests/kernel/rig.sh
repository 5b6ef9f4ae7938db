#!/bin/bash
# rig.sh - run one command as root under a Debian kernel that has what IPsec needs: ESP, AH,
# NETLINK_XFRM, AF_KEY, veth, tun, network namespaces. For machines whose own kernel has not.
# The guest sees this machine's root filesystem read-only under a throw-away overlay.
#
#   rig.sh [options] [--] 'shell command'
#     -b BACKEND   tcg (QEMU without KVM, the default) | uml (user-mode Linux: boots faster)
#     -K VERSION   kernel, tcg only: 6.1 (Debian 12's, the default) | 6.12 (Debian 13's)
#     -w DIR       mount DIR of the host read-write (may be repeated);
#                  everything else that the command writes is thrown away
#     -m MB        memory of the guest         (default 1024)
#     -c N         CPUs, tcg only              (default 1: with two a guest with Linux 6.12 died once, one byte into an
#                  instruction of netif_rx_internal that Linux changes while it runs)
#     -t SECONDS   kill it after that long     (default 300; exit status 124)
#     -e NAME[=V]  pass an environment variable (may be repeated)
#     -i           feed standard input (read to its end first) to the command
#     -v           show the kernel's console on stderr
#     -k           keep the run's folder (console log, output) and name it
#     --setup      only fetch and prepare what the chosen backend and kernel need (130 MB from Debian)
# Exit status: the command's own; 124 timed out; 125 the guest died or the rig failed.
# Environment: IKED_RIG_CACHE (default ${XDG_CACHE_HOME:-/var/cache}/iked-rig), IKED_RIG_BACKEND, IKED_RIG_KERNEL.
# Inside, IKED_RIG names the backend. There is no network device but lo.
set -u
SELF=$(readlink -f "$0")
CACHE=${IKED_RIG_CACHE:-${XDG_CACHE_HOME:-/var/cache}/iked-rig}
. "${SELF%/kernel/rig.sh}/interop/suite.sh"
BACKEND=${IKED_RIG_BACKEND:-tcg} KERNEL=${IKED_RIG_KERNEL:-6.1} MEM=1024 CPUS=1 LIMIT=300 VERBOSE= KEEP= STDIN= SETUP=
RW=() ENVS=()
die() { echo "iked-rig: $*" >&2; exit 125; }
while [ $# -gt 0 ]; do
  case $1 in
    -b) BACKEND=$2; shift 2;; -K) KERNEL=$2; shift 2;; -w) RW+=("$(readlink -f "$2")"); shift 2;;
    -m) MEM=$2; shift 2;; -c) CPUS=$2; shift 2;; -t) LIMIT=$2; shift 2;;
    -e) ENVS+=("$2"); shift 2;; -i) STDIN=1; shift;; -v) VERBOSE=1; shift;;
    -k) KEEP=1; shift;; --setup) SETUP=1; shift;; --) shift; break;;
    -h|--help) sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p}' "$SELF"; exit 0;;
    -*) die "unknown option $1";; *) break;;
  esac
done
[ "$(id -u)" = 0 ] || die "must be root"
[ -n "$SETUP" ] || [ $# -ge 1 ] || die "no command (see --help)"

case $BACKEND in uml|tcg) ;; *) die "unknown backend $BACKEND";; esac
case $BACKEND-$KERNEL in
  uml-6.1) KDIR=$CACHE/uml;;
  tcg-6.1) KDIR=$CACHE/qemu;;
  tcg-6.12) KDIR=$CACHE/qemu-6.12;;
  *) die "no kernel $KERNEL with backend $BACKEND";;
esac

# ---------------------------------------------------------------- preparation
APT_UPDATED=
apt_update() { [ -n "$APT_UPDATED" ] || { apt-get update -qq >&2 || true; APT_UPDATED=1; }; }
apt_need() { # program package
  command -v "$1" >/dev/null 2>&1 && return
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1 && return
  apt_update
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2 || die "cannot install $2"
}
fetch_deb() { # package destination-folder: unpacks, installs nothing
  local d; d=$(mktemp -d) || exit 125
  chmod 755 "$d"
  (cd "$d" && { apt-get download -qq "$1" >/dev/null 2>&1 || { apt_update; apt-get download -qq "$1" >&2; }; } \
    && dpkg-deb -x ./*.deb "$2") || { rm -rf "$d"; die "cannot fetch $1"; }
  rm -rf "$d"
}
prune_modules() { # modules-folder: keep what networking tests need
  local k=$1/kernel d
  for d in "$k"/*; do case ${d##*/} in net|crypto|lib|arch|drivers|fs|kernel) ;; *) rm -rf "$d";; esac; done
  for d in "$k"/drivers/*; do case ${d##*/} in net|virtio|char) ;; *) rm -rf "$d";; esac; done
  for d in "$k"/drivers/net/*/ "$k"/drivers/char/*/; do
    case $d in */bonding/|*/ipvlan/|*/wireguard/|*/hw_random/) ;; *) rm -rf "$d";; esac; done
  for d in "$k"/fs/*; do case ${d##*/} in 9p|netfs|fscache|overlayfs|fuse|nls) ;; *) rm -rf "$d";; esac; done
  rm -rf "$k"/net/{mac80211,wireless,bluetooth,can,nfc,sunrpc,rds,tipc,ceph,batman-adv,ieee802154}
}
setup_uml() {
  [ -e "$CACHE/uml/ok" ] && [ -e "$CACHE/uml/xstate.so" ] && return
  local source=${SELF%/*}/xstate.c
  apt_need depmod kmod
  local t=$CACHE/uml.$$ v; mkdir -p "$t/x"
  fetch_deb user-mode-linux "$t/x"
  v=$(ls "$t/x/usr/lib/uml/modules") || die "no UML modules"
  mkdir -p "$t/lib/modules"; mv "$t/x/usr/lib/uml/modules/$v" "$t/lib/modules/"
  mv "$t/x/usr/bin/linux.uml" "$t/linux"
  prune_modules "$t/lib/modules/$v"; depmod -b "$t" "$v"
  preload_list "$t" "$v" $PRELOAD > "$t/preload"
  cc -O2 -Wall -Werror -shared -fPIC -o "$t/xstate.so" "$source" || die "cannot compile $source"
  rm -rf "$t/x"; touch "$t/ok"
  rm -rf "$CACHE/uml"; mv -T "$t" "$CACHE/uml" 2>/dev/null || rm -rf "$t"
}
setup_qemu() {
  [ -e "$KDIR/ok" ] && command -v qemu-system-x86_64 >/dev/null && return
  apt_need depmod kmod; apt_need qemu-system-x86_64 qemu-system-x86; apt_need xz xz-utils; apt_need zstd zstd; apt_need cpio cpio
  [ -e "$KDIR/ok" ] && return
  local t=$KDIR.$$ v p z off len m; mkdir -p "$t/x"
  if [ "$KERNEL" = 6.12 ]; then
    # Another release of Debian than this machine's, by an apt of its own.
    apt_for trixie "$CACHE/apt-trixie" || die "no package lists of Debian 13"
    APT_UPDATED=
  fi
  p=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: //p')
  [ -n "$p" ] || { apt_update; p=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p'); }
  fetch_deb "$p" "$t/x"
  unset APT_CONFIG
  [ -d "$t/x/lib" ] || mv "$t/x/usr/lib" "$t/x/lib"
  v=$(ls "$t/x/lib/modules"); z=$t/x/boot/vmlinuz-$v
  case $v in "$KERNEL".*) ;; *) die "$p is not Linux $KERNEL but $v";; esac
  # The bzImage's payload is the vmlinux, compressed with xz or zstd; booted directly (PVH) it
  # saves the guest the decompression, which is seconds under TCG.
  off=$(( ($(od -An -tu1 -j $((0x1f1)) -N1 "$z") + 1) * 512 + $(od -An -tu4 -j $((0x248)) -N4 "$z") ))
  len=$(od -An -tu4 -j $((0x24c)) -N4 "$z")
  tail -c +$((off + 1)) "$z" | head -c $((len - 4)) > "$t/payload"
  { xz -dc < "$t/payload" || zstd -dc < "$t/payload"; } > "$t/vmlinux" 2>/dev/null
  rm -f "$t/payload"
  [ "$(head -c 4 "$t/vmlinux" | tail -c 3)" = ELF ] || cp "$z" "$t/vmlinux"
  mkdir -p "$t/lib/modules"; mv "$t/x/lib/modules/$v" "$t/lib/modules/"
  prune_modules "$t/lib/modules/$v"
  # Newer packages have them compressed, which our first process, that loads some itself, does not know.
  find "$t/lib/modules/$v" -name '*.ko.xz' -exec xz -d {} +
  depmod -b "$t" "$v"
  mkdir -p "$t/ir/m" "$t/ir/usr/bin"; : > "$t/ir/m/list"
  preload_list "$t" "$v" virtio_pci 9pnet_virtio 9p $PRELOAD | while read -r m; do
    cp "$t/$m" "$t/ir/m/"; echo "${m##*/}" >> "$t/ir/m/list"; done
  cp /usr/bin/perl "$t/ir/usr/bin/"
  ldd /usr/bin/perl | grep -o '/[^ ]*' | while read -r m; do mkdir -p "$t/ir${m%/*}"; cp -L "$m" "$t/ir$m"; done
  guest_init > "$t/ir/init"; chmod 755 "$t/ir/init"
  (cd "$t/ir" && find . | cpio -o -H newc --quiet) > "$t/initrd"
  rm -rf "$t/x" "$t/ir"; touch "$t/ok"
  rm -rf "$KDIR"; mv -T "$t" "$KDIR" 2>/dev/null || rm -rf "$t"
}
# First process of either guest. Perl (perl-base is Essential) making its system
# calls itself: a fork and exec costs 50 ms under TCG and UML, this one none.
guest_init() { cat <<'INIT'
#!/usr/bin/perl
$| = 1;
sub note { if (open(my $k, '>', '/dev/kmsg')) { print $k "iked-rig: @_\n" } else { print "iked-rig: @_\n" } }
sub mnt { my ($src, $dst, $type, $fl, $data) = map { "$_" } @_;
  syscall(165, $src, $dst, $type, $fl + 0, $data) == 0 or do { note("mount $type $dst: $!"); 0 } }
sub mkp { my $p = ''; for (split m{/}, $_[0]) { next if $_ eq ''; $p .= "/$_"; mkdir $p unless -d $p } }
sub put { open(my $f, '>', $_[0]) or return; syswrite $f, "$_[1]" }
sub lines { open(my $f, '<', $_[0]) or return (); my @l = <$f>; chomp @l; @l }
sub insmod { open(my $f, '<', $_[0]) or return note("no $_[0]"); my $e = '';
  syscall(313, fileno($f), $e, 0) == 0 or $! == 17 or note("insmod $_[0]: $!") }
my $uml = !-e '/m/list';
mkp('/proc') unless $uml;
mnt('proc', '/proc', 'proc', 0, '');
my ($c) = lines('/proc/cmdline'); my ($R) = $c =~ /rig\.dir=(\S+)/; my ($C) = $c =~ /rig\.cache=(\S+)/;
my ($lo, $t, $new, $p9) = ('/', "$R/m", "$R/m/new", 'trans=virtio,version=9p2000.L,msize=512000');
if ($uml) { insmod("$C/$_") for lines("$C/preload") }
else {
  insmod("/m/$_") for lines('/m/list');
  ($lo, $t, $new) = ('/lo', '/t', '/new'); mkdir $_ for $lo, $t, $new;
  mnt('root', $lo, '9p', 1, "cache=loose,$p9");
}
mnt('t', $t, 'tmpfs', 0, 'mode=755');
mkdir $_ for "$t/u", "$t/w", $new;
mnt('root', $new, 'overlay', 0, "lowerdir=$lo,upperdir=$t/u,workdir=$t/w");
my ($n, @rw) = (0, lines(($uml ? '' : $lo) . "$R/rw"));
for (@rw) {
  mkp("$new$_");
  $uml ? mnt('none', "$new$_", 'hostfs', 0, $_) : mnt("rw$n", "$new$_", '9p', 0, "cache=mmap,$p9"); $n++;
}
chdir $new; mnt('.', '/', '', 8192, ''); chroot '.'; chdir '/';
mnt('proc', '/proc', 'proc', 0, ''); mnt('sys', '/sys', 'sysfs', 0, '');
mnt('dev', '/dev', 'devtmpfs', 0, ''); mkp('/dev/pts'); mkp('/dev/shm'); mkp('/dev/net');
mnt('devpts', '/dev/pts', 'devpts', 0, 'ptmxmode=666,mode=620'); mnt('shm', '/dev/shm', 'tmpfs', 0, 'mode=1777');
symlink('/proc/self/fd', '/dev/fd'); my $i = 0; symlink('/proc/self/fd/' . $i++, "/dev/$_") for qw(stdin stdout stderr);
symlink('pts/ptmx', '/dev/ptmx') unless -e '/dev/ptmx';
mnt('run', '/run', 'tmpfs', 0, 'mode=755'); mkdir '/run/netns'; mkdir '/run/lock'; chmod 01777, '/run/lock';
mnt('cg', '/sys/fs/cgroup', 'cgroup2', 0, '');
my ($v) = lines('/proc/sys/kernel/osrelease');
mkp("/lib/modules/$v"); mnt("$C/lib/modules/$v", "/lib/modules/$v", '', 4096, '');
put('/proc/sys/net/ipv4/ping_group_range', '0 2147483647');
put('/proc/sys/kernel/hostname', 'iked-rig');
put('/proc/sys/kernel/printk_ratelimit', '0');
if (socket(my $s, 2, 2, 0)) { my $r = pack('a16 s x22', 'lo', 73); ioctl($s, 0x8914, $r) }
note('ready after ' . (split ' ', (lines('/proc/uptime'))[0])[0] . ' s');
my $child = fork;
if (!$child) {
  syscall(112);
  open(STDIN, '<', "$R/in"); open(STDOUT, '>>', "$R/out"); open(STDERR, '>>', "$R/err");
  %ENV = (PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin');
  exec '/bin/bash', "$R/run"; exit 127;
}
my $p; do { $p = wait } until $p == $child || $p == -1;
my $st = $?;
put("$R/rc.tmp", ($st & 127 ? 128 + ($st & 127) : $st >> 8) . "\n"); rename "$R/rc.tmp", "$R/rc";
syscall(162);
put('/proc/sys/kernel/sysrq', '1'); put('/proc/sysrq-trigger', $uml ? 'o' : 'b');
sleep 30;
INIT
}
# Modules loaded at the start, so that the kernel need not start modprobe for them
# one by one (everything else in /lib/modules still loads on demand).
PRELOAD='overlay ipv6 xfrm_user af_key esp4 esp6 veth tun xfrm_interface
 crypto_null aes_generic gcm ccm ctr cbc ecb seqiv echainiv ghash-generic authenc authencesn hmac
 sha1_generic sha256_generic sha512_generic md5 xcbc cmac chacha20poly1305 chacha_generic poly1305_generic
 des_generic rng drbg jitterentropy_rng'
preload_list() { # kernel-folder version modules...: the files, in the order to load
  local k=$1 v=$2 m; shift 2
  for m; do modprobe -d "$k" -S "$v" --show-depends "$m" 2>/dev/null | awk '$1=="insmod"{print $2}'; done |
    sed "s|^$k/||" | awk '!s[$0]++'
}

mkdir -p "$CACHE"
( flock 9
  case $BACKEND in uml) setup_uml;; *) setup_qemu;; esac ) 9>"$CACHE/lock" || exit 125
KDIR=$(readlink -f "$KDIR")
[ -z "$SETUP" ] || exit 0

# ------------------------------------------------------------------- the run
R=$(mktemp -d /tmp/iked-rig.XXXXXX) || die "mktemp"
VM= TAILS=()
cleanup() {
  [ -z "$VM" ] || kill -KILL -- "-$VM" 2>/dev/null
  [ ${#TAILS[@]} = 0 ] || kill "${TAILS[@]}" 2>/dev/null
  if [ -n "$KEEP" ]; then echo "iked-rig: kept $R" >&2; else rm -rf "$R"; fi
}
trap cleanup EXIT; trap 'exit 130' INT; trap 'exit 143' TERM HUP
mkdir "$R/m" "$R/uml"; : > "$R/out"; : > "$R/err"; : > "$R/console"
if [ -n "$STDIN" ]; then cat > "$R/in"; else : > "$R/in"; fi
printf '%s\n' "$R" "${RW[@]}" | sed '/^$/d' > "$R/rw"
{ for n in PATH HOME USER LOGNAME SHELL LANG LC_ALL TERM CI CARGO_HOME RUSTUP_HOME CARGO_TARGET_DIR RUST_LOG RUST_BACKTRACE; do
    [ -z "${!n+x}" ] || printf 'export %s=%q\n' "$n" "${!n}"; done
  for n in "${ENVS[@]}"; do case $n in *=*) printf 'export %s=%q\n' "${n%%=*}" "${n#*=}";;
    *) printf 'export %s=%q\n' "$n" "${!n-}";; esac; done
  printf 'export IKED_RIG=%s\ncd %q 2>/dev/null || cd /\n%s\n' "$BACKEND" "$PWD" "$*"
} > "$R/run"
guest_init > "$R/init"; chmod 755 "$R/init"
set -m   # the guest gets a process group of its own
if [ "$BACKEND" = uml ]; then
  LD_PRELOAD=$KDIR/xstate.so "$KDIR/linux" mem="${MEM}M" root=/dev/root rootfstype=hostfs rootflags=/ ro init="$R/init" rig.dir="$R" rig.cache="$KDIR" \
    initcall_blacklist=raid6_select_algo,calibrate_xor_blocks panic=-1 \
    con=null con0=null,fd:1 ssl=null uml_dir="$R/uml/" umid=k \
    $([ -n "$VERBOSE" ] || echo quiet) </dev/null >>"$R/console" 2>&1 &
else
  ACC=(-accel tcg,thread=multi,tb-size=512 -cpu "max,la57=off,smap=off,smep=off,pku=off")
  FS=(); n=0
  while read -r d; do
    FS+=(-fsdev "local,id=f$n,path=$d,security_model=none,multidevs=remap" -device "virtio-9p-pci,fsdev=f$n,mount_tag=rw$n"); n=$((n + 1))
  done < "$R/rw"
  # no_timer_check: where this machine has much else to do the first ticks come too late for the kernel's patience.
  qemu-system-x86_64 -M pc "${ACC[@]}" -smp "$CPUS" -m "$MEM" -nodefaults -display none -no-reboot -nic none \
    -serial stdio -kernel "$KDIR/vmlinux" -initrd "$KDIR/initrd" \
    -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=root,mount_tag=root \
    "${FS[@]}" \
    -append "console=ttyS0 rig.dir=$R rig.cache=$KDIR panic=-1 reboot=t random.trust_cpu=on tsc=reliable no_timer_check mitigations=off $([ -n "$VERBOSE" ] || echo quiet)" \
    </dev/null >>"$R/console" 2>&1 &
fi
VM=$!
set +m
tail -n +1 -s 0.05 --pid=$VM -f "$R/out" 2>/dev/null & TAILS+=($!)
tail -n +1 -s 0.05 --pid=$VM -f "$R/err" >&2 2>/dev/null & TAILS+=($!)
[ -z "$VERBOSE" ] || { tail -n +1 -s 0.05 --pid=$VM -f "$R/console" >&2 2>/dev/null & TAILS+=($!); }
( exec >/dev/null 2>&1 </dev/null; trap 'kill $S 2>/dev/null; exit' TERM
  sleep "$LIMIT" & S=$!; wait $S; touch "$R/timeout"; kill -KILL -- "-$VM" ) & DOG=$!
wait "$VM" 2>/dev/null
kill "$DOG" 2>/dev/null; kill -KILL -- "-$VM" 2>/dev/null; VM=
wait "${TAILS[@]}" 2>/dev/null; TAILS=()
if [ -e "$R/rc" ]; then exit "$(cat "$R/rc")"; fi
if [ -e "$R/timeout" ]; then echo "iked-rig: timed out after $LIMIT s" >&2; exit 124; fi
echo "iked-rig: the guest ended without a result; end of its console:" >&2
tail -n 40 "$R/console" >&2
exit 125

# suite.sh - to be sourced: an apt for another release of Debian than this machine's.

# apt_for SUITE HOME: from now on (until APT_CONFIG is unset) apt knows only that suite of Debian, whose lists it has in the
# folder HOME, fetched once. It checks their signature, and by them every package that it fetches. This
# machine's own package lists and dpkg are neither used nor changed.
apt_for() {
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  export APT_CONFIG=$2/apt.conf
  [ ! -e "$2/ok" ] || return 0
  rm -rf "$2"
  mkdir -p "$2"/{sources,state/lists/partial,cache/archives/partial}
  : > "$2/status"
  printf 'deb [signed-by=%s] http://deb.debian.org/debian %s main\n' "$keys" "$1" > "$2/sources/one.list"
  cat > "$APT_CONFIG" <<CONF
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$2/sources";
Dir::State "$2/state";
Dir::State::Status "$2/status";
Dir::Cache "$2/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
  apt-get update -qq && touch "$2/ok"
}

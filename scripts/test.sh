#!/bin/bash
# test.sh - every test there is: installs what is missing, builds, runs, and ends with one line that
# counts. Steps can be named to run only those: fmt lint doc man cargo kernel interop demo
set -u
cd "$(dirname "$0")/.."
START=$SECONDS
LOG=$(mktemp -d)
trap 'rm -rf "$LOG"' EXIT
export PATH="$PATH:$HOME/.cargo/bin" CARGO_TERM_COLOR=never
STEPS=${*:-fmt lint doc man cargo kernel interop demo}
PASSED=0 FAILED=0 NUMBER=0 TOTAL=$(wc -w <<<"$STEPS")
[ "$(id -u)" = 0 ] || { echo "the tests make network namespaces: run them as root" >&2; exit 1; }

# run NAME COMMAND..: shows the output as it comes. Test programs count themselves by their
# "test result" lines; a step without such a line counts as one test.
run() {
  local name=$1 status passed failed; shift
  NUMBER=$((NUMBER + 1))
  printf '\033[1m==> [%d/%d %4ds] %s: %s\033[0m\n' $NUMBER $TOTAL $((SECONDS - START)) "$name" "$*"
  "$@" 2>&1 | tee "$LOG/$name"
  status=${PIPESTATUS[0]}
  read -r passed failed < <(awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i == "passed;") p += $(i - 1); if ($i == "failed;") f += $(i - 1) } } END { print p + 0, f + 0 }' "$LOG/$name")
  if [ $((passed + failed)) = 0 ]; then
    if [ "$status" = 0 ]; then passed=1; else failed=1; fi
  elif [ "$status" != 0 ] && [ "$failed" = 0 ]; then
    failed=1
  fi
  PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
  [ "$status" = 0 ] || echo "FAILED: $name" >&2
}

scripts/deps.sh all || exit 1
for step in $STEPS; do
  case $step in
    fmt) run fmt cargo fmt --all -- --check;;
    lint) run lint cargo clippy --locked --workspace --all-targets -- -D warnings;;
    doc) RUSTDOCFLAGS="-D warnings" run doc cargo doc --locked --workspace --no-deps --document-private-items;;
    man) run man mandoc -T lint -W warning man/iked.8 man/ikectl.8 man/iked.conf.5;;
    # The peers are played by the step `interop`.
    cargo) IKED_INTEROP_CELLS=none run cargo cargo test --locked --workspace --all-targets --no-fail-fast;;
    kernel) run kernel tests/kernel/run.sh -b "${IKED_RIG_BACKEND:-uml}";;
    interop) run interop tests/interop/under_rig.sh;;
    demo) run demo scripts/demo.sh;;
    *) echo "unknown step $step" >&2; exit 1;;
  esac
done
printf '\n%d passed, %d failed (%d s)\n' $PASSED $FAILED $((SECONDS - START))
[ $FAILED = 0 ]

#!/usr/bin/env bash
# Sets up, builds and runs every test, with both compilers and under the sanitizers.
#
# Ends with one line, "N passed, M failed", over all builds; the exit code is 0 if M is 0. A build
# that does not compile counts as one failed test.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [--quick] [--preset NAME]... [--no-setup]

  --quick        the release build only
  --preset NAME  this build only: debug, release, clang, asan or tsan; may be given repeatedly
  --no-setup     do not look for missing packages

Without options: release, clang, asan, tsan.
TEXT
}

presets=()
setup=yes
while (($#)); do
  case "$1" in
    --quick) presets=(release) ;;
    --preset)
      (($# > 1)) || { usage >&2 && exit 2; }
      presets+=("$2") && shift
      ;;
    --no-setup) setup=no ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
((${#presets[@]})) || presets=(release clang asan tsan)

passed=0
failed=0
failures=()
times=()
jobs="$(nproc)"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

heading() { printf '\n=== %s\n' "$*"; }

# timed STAGE COMMAND...: runs it here, and notes how long it took for the closing lines.
timed() {
  local stage="$1" status started=$SECONDS
  shift
  heading "$stage"
  "$@"
  status=$?
  times+=("$(printf '%4d s  %s' $((SECONDS - started)) "$stage")")
  return "$status"
}

fail() {
  failed=$((failed + 1))
  failures+=("$1")
}

# The checks of the sources come first: they take seconds, and a build takes minutes.
check_structure() {
  if python3 -B test/structure/check.py; then
    passed=$((passed + 1))
  else
    fail "structure"
  fi
}

build() {
  cmake --preset "$1" && cmake --build --preset "$1" --parallel "$jobs"
}

# Reads ctest's own closing line: "97% tests passed, 3 tests failed out of 100".
count() {
  local preset="$1" status="$2" line bad total
  line="$(grep -E '^[0-9]+% tests passed, [0-9]+ tests? failed out of [0-9]+$' "$log" | tail -n 1)"
  if [[ "$line" =~ ,\ ([0-9]+)\ tests?\ failed\ out\ of\ ([0-9]+)$ ]]; then
    bad="${BASH_REMATCH[1]}" total="${BASH_REMATCH[2]}"
    passed=$((passed + total - bad))
    failed=$((failed + bad))
    ((bad == 0)) || failures+=("$preset: $bad of $total")
    ((bad > 0 || status == 0)) || fail "$preset: ctest ended with $status"
  else
    fail "$preset: ctest counted no tests"
  fi
}

run_tests() {
  # One more than processors: many of the tests wait most of their time.
  ctest --preset "$1" --parallel "$((jobs + 1))" 2>&1 | tee "$log"
  count "$1" "${PIPESTATUS[0]}"
}

if [[ $setup == yes ]]; then
  timed "packages" scripts/setup.sh || { echo "0 passed, 1 failed" && exit 1; }
fi
timed "structure" check_structure
for preset in "${presets[@]}"; do
  if timed "$preset: build" build "$preset"; then
    timed "$preset: tests" run_tests "$preset"
  else
    fail "$preset: does not build"
  fi
done

heading "all"
printf '%s\n' "${times[@]}" "$(printf '%4d s  in all' "$SECONDS")"
for failure in "${failures[@]}"; do
  echo "failed: $failure"
done
echo "$passed passed, $failed failed"
((failed == 0))

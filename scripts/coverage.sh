#!/usr/bin/env bash
# Measures how much of engine/, proto/ and stream/ the tests run, by Clang's source-based coverage.
#
# Builds the preset `coverage`, runs the unit tests on both engines, the fuzz corpora, the
# simulation, the faults, the comparison with CPython and the integration tests, and reports. What a
# killed process ran counts as well: its counters lie in a file while it runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/coverage.sh [--html DIR] [--no-build] [--no-run] [--seeds N] [--jobs N]

  --html DIR  also write annotated sources to DIR
  --no-build  use the programs that are there
  --no-run    report once more on what the last run left behind
  --seeds N   how many seeds the simulation runs for each of its scenarios (default 1500)
  --jobs N    how many compilers run at once (default: all processors)

Prints lines and branches per folder and per file; writes what is not covered to
build/coverage/uncovered.txt. Ends 0 if each folder reaches 90 % of lines and 80 % of branches, 1 if
not or if a test failed, 2 on bad usage.
TEXT
}

bad_usage() {
  usage >&2
  exit 2
}

html=
build=yes
run=yes
seeds=1500
jobs="$(nproc)"
while (($#)); do
  case "$1" in
    --html | --seeds | --jobs)
      (($# > 1)) || bad_usage
      case "$1" in
        --html) html="$2" ;;
        --seeds) seeds="$2" ;;
        --jobs) jobs="$2" ;;
      esac
      shift
      ;;
    --no-build) build=no ;;
    --no-run) run=no ;;
    -h | --help) usage && exit 0 ;;
    *) bad_usage ;;
  esac
  shift
done
[[ "$seeds" =~ ^[1-9][0-9]*$ && "$jobs" =~ ^[1-9][0-9]*$ ]] || bad_usage

for tool in llvm-profdata-19 llvm-cov-19; do
  command -v "$tool" >/dev/null || {
    echo "coverage: no $tool. Run scripts/setup.sh" >&2
    exit 1
  }
done

tree=build/coverage
bin="$tree/bin"
raw="$tree/raw"
failed=0

# Runs a step with its counters in files of its own, %c: kept while it runs.
step() {
  local name="$1"
  shift
  echo "coverage: $name"
  LLVM_PROFILE_FILE="$PWD/$raw/$name-%p%c.profraw" "$@" >"$tree/logs/$name.log" 2>&1 || {
    echo "coverage: $name failed with $?; see $tree/logs/$name.log" >&2
    failed=1
  }
}

# One file for many of a step, which may be hundreds of processes.
merge() {
  local step
  find "$raw" -name '*.profraw' -empty -delete
  for step in $(find "$raw" -name '*.profraw' -printf '%f\n' | sed 's/-[0-9]*\.profraw$//' |
    sort -u); do
    find "$raw" -name "$step-*.profraw" >"$tree/$step.list"
    llvm-profdata-19 merge --sparse --failure-mode=all --input-files="$tree/$step.list" \
      --output="$tree/$step.profdata" 2>"$tree/logs/merge-$step.log" ||
      { echo "coverage: $step left no counters; see $tree/logs/merge-$step.log" >&2 && failed=1; }
  done
  llvm-profdata-19 merge --sparse "$tree"/*.profdata --output="$tree/all.prof"
}

run_tests() {
  local layer engine suite
  rm -rf "$raw" "$tree"/*.profdata
  mkdir -p "$raw" "$tree/logs"
  for layer in engine proto stream apps; do
    for engine in auto epoll; do
      step "$layer-$engine" env PELTON_ENGINE="$engine" "$bin/${layer}_tests"
    done
  done
  step fuzz "$bin/fuzz_replay" test/fuzz/corpus
  step simulation "$bin/pelton-sim" --seeds "$seeds" --jobs 1
  step errnos "$bin/pelton-faults" --engine uring --sample 5
  step errnos-epoll "$bin/pelton-faults" --engine epoll --sample 5
  step allocations "$bin/pelton-faults-memory" --mode once --step 31
  step oracle python3 -B test/oracle/compare.py --oracle "$bin/stream_oracle" --scripts 2000 \
    --seed 1
  # What goes by time or memory fails on an instrumented program, and says nothing about coverage.
  for engine in auto epoll; do
    for suite in tests faults; do
      step "integration-$suite-$engine" env PELTON_SANITIZE=coverage PELTON_ENGINE="$engine" \
        python3 -B test/integration/run.py --suite "$suite" --bin "$bin" --quick
    done
  done
}

if [[ $build == yes ]]; then
  cmake --preset coverage
  cmake --build --preset coverage --parallel "$jobs"
fi
[[ $run == no ]] || run_tests
merge

objects=()
for program in "$bin"/{engine,proto,stream,apps}_tests "$bin/fuzz_replay" "$bin/pelton-sim" \
  "$bin"/pelton-faults{,-memory} "$bin/stream_oracle" "$bin/pelton-echo" "$bin/pelton-proxy"; do
  objects+=(--object "$program")
done
llvm-cov-19 export --format=text --instr-profile="$tree/all.prof" "${objects[@]}" \
  --sources engine proto stream "$tree/include" >"$tree/coverage.json"
llvm-cov-19 export --format=lcov --instr-profile="$tree/all.prof" "${objects[@]}" \
  --sources engine proto stream "$tree/include" >"$tree/coverage.lcov"
if [[ -n "$html" ]]; then
  llvm-cov-19 show --format=html --output-dir="$html" --show-branches=count \
    --instr-profile="$tree/all.prof" "${objects[@]}" --sources engine proto stream "$tree/include"
fi
python3 -B scripts/coverage.py --json "$tree/coverage.json" --lcov "$tree/coverage.lcov" \
  --uncovered "$tree/uncovered.txt" || failed=1
exit "$failed"

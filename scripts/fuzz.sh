#!/usr/bin/env bash
# Builds the fuzz targets and runs them under libFuzzer, AddressSanitizer and
# UndefinedBehaviorSanitizer. See test/fuzz/README.md.
#
# What is found on the way is kept below build/fuzz: inputs that reach new code in corpus/, inputs
# that a target fails on in findings/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/fuzz.sh [--minutes N] [--target NAME]... [--jobs N] [--no-build]
       scripts/fuzz.sh --minimise [--target NAME]... [--no-build]

  --minutes N    how long each target runs (default 1; fractions are allowed)
  --target NAME  this target only: address, chain, options or reader
  --jobs N       how many targets run at once (default 1)
  --minimise     instead of running: replaces the corpora in test/fuzz/corpus by the smallest
                 set of inputs, of those and of what was found, that reaches all they reach
  --no-build     use the programs that are there

Prints for each target its executions and how much of the code it reached before and after. Ends 0
if no target failed, 1 if one did, 2 on bad usage.
TEXT
}

bad_usage() {
  usage >&2
  exit 2
}

minutes=1
jobs=1
build=yes
minimise=no
targets=()
while (($#)); do
  case "$1" in
    --minutes | --jobs | --target)
      (($# > 1)) || bad_usage
      case "$1" in
        --minutes) minutes="$2" ;;
        --jobs) jobs="$2" ;;
        --target) targets+=("$2") ;;
      esac
      shift
      ;;
    --minimise) minimise=yes ;;
    --no-build) build=no ;;
    -h | --help) usage && exit 0 ;;
    *) bad_usage ;;
  esac
  shift
done
[[ "$minutes" =~ ^[0-9]*\.?[0-9]+$ && "$jobs" =~ ^[1-9][0-9]*$ ]] || bad_usage
seconds="$(awk -v minutes="$minutes" 'BEGIN { printf "%d", minutes * 60 + 0.5 }')"
((seconds > 0)) || bad_usage

bin=build/fuzz/bin
found=build/fuzz/corpus
findings=build/fuzz/findings
logs=build/fuzz/logs
seeds=test/fuzz/corpus

all_targets() {
  find test/fuzz -maxdepth 1 -name 'fuzz_*.cpp' -printf '%f\n' |
    sed 's/^fuzz_//; s/\.cpp$//' | sort
}
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <(all_targets)
fi
for target in "${targets[@]}"; do
  [[ -f "test/fuzz/fuzz_$target.cpp" ]] || {
    echo "fuzz: there is no target '$target'; there are: $(all_targets | tr '\n' ' ')" >&2
    exit 2
  }
done

if [[ $build == yes ]]; then
  cmake --preset fuzz
  cmake --build --preset fuzz --parallel "$(nproc)"
fi
mkdir -p "$found" "$findings" "$logs"

# The longest input that makes sense for a target.
length_max() {
  case "$1" in
    address) echo 256 ;;
    *) echo 1024 ;;
  esac
}

# Options of libFuzzer that running and minimising share.
options_of() {
  printf '%s\n' "-max_len=$(length_max "$1")" -len_control=0 -timeout=20 -rss_limit_mb=1500
  if [[ -f "test/fuzz/$1.dict" ]]; then printf '%s\n' "-dict=test/fuzz/$1.dict"; fi
}

run_target() {
  local target="$1" log="$logs/$1.log" options
  mapfile -t options < <(options_of "$target")
  mkdir -p "$found/$target" "$seeds/$target"
  "$bin/fuzz_$target" "${options[@]}" -max_total_time="$seconds" -print_final_stats=1 \
    -artifact_prefix="$findings/$target-" "$found/$target" "$seeds/$target" >"$log" 2>&1
}

# One figure of libFuzzer's log: of `cov: 123`, the first or the last.
reached() {
  awk -v which="$2" '
    match($0, /cov: [0-9]+/) { last = substr($0, RSTART + 5, RLENGTH - 5); n++ || first = last }
    END { print (which == "first" ? first : last) + 0 }' "$1"
}
statistic() { sed -n "s/^stat::$2: *//p" "$1"; }

report() {
  local target="$1" status="$2" log="$logs/$1.log" file
  printf '%-8s %12s executions, %6s each second; reached %s places, %s before; %s new inputs\n' \
    "$target" "$(statistic "$log" number_of_executed_units)" \
    "$(statistic "$log" average_exec_per_sec)" "$(reached "$log" last)" "$(reached "$log" first)" \
    "$(statistic "$log" new_units_added)"
  ((status != 0)) || return 0
  echo "$target failed:"
  grep -m 3 -E '^fuzz: |assertion failed|ERROR: |runtime error' "$log" | sed 's/^/  /' || true
  file="$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)"
  echo "  replay: $bin/fuzz_$target ${file:-(no input was stored; see $log)}"
}

run_all() {
  local target pid status failed=0
  local -A running=()
  for target in "${targets[@]}" ""; do
    while ((${#running[@]} > 0 && (${#running[@]} >= jobs || ${#target} == 0))); do
      status=0
      wait -n -p pid "${!running[@]}" || status=$?
      ((status == 0)) || failed=1
      report "${running[$pid]}" "$status"
      unset "running[$pid]"
    done
    [[ -n "$target" ]] || break
    run_target "$target" &
    running[$!]="$target"
  done
  return "$failed"
}

# The smallest set that reaches the same; an input keeps its name, which is the hash of its bytes.
minimise_target() {
  local target="$1" options merged="$found/$1.merged"
  mapfile -t options < <(options_of "$target")
  rm -rf "$merged"
  mkdir -p "$merged" "$found/$target" "$seeds/$target"
  "$bin/fuzz_$target" "${options[@]}" -set_cover_merge=1 \
    "$merged" "$seeds/$target" "$found/$target" >"$logs/$target.merge.log" 2>&1
  rm -rf "${seeds:?}/$target"
  mv "$merged" "$seeds/$target"
  printf '%-8s %s inputs, %s bytes\n' "$target" "$(find "$seeds/$target" -type f | wc -l)" \
    "$(find "$seeds/$target" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')"
}

if [[ $minimise == yes ]]; then
  for target in "${targets[@]}"; do minimise_target "$target"; done
else
  run_all
fi

#!/usr/bin/env bash
# Runs clang-tidy over the sources. Not a part of the tests: it takes minutes, and its opinion
# changes with its version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
  echo "usage: scripts/tidy.sh [FILE.cpp]...   (default: every source of the layers and the apps)"
  exit 0
fi

# Older ones do not know C++23: Debian's default, 14, crashes on <expected>.
if ! command -v clang-tidy-19 >/dev/null; then
  echo "tidy: no clang-tidy-19. apt-get install clang-tidy-19" >&2
  exit 1
fi

# The compile commands of the clang build: clang-tidy does not know all of GCC's options.
[[ -f build/clang/compile_commands.json ]] || cmake --preset clang
files=("$@")
((${#files[@]})) || mapfile -t files < <(ls engine/*.cpp proto/*.cpp stream/*.cpp apps/*.cpp)
printf '%s\0' "${files[@]}" |
  xargs --null --max-args=1 --max-procs="$(nproc)" clang-tidy-19 -p build/clang --quiet

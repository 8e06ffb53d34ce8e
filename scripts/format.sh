#!/usr/bin/env bash
# Lays out every C and C++ file as test/structure/check.py wants it: clang-format 14, .clang-format.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v clang-format-14 >/dev/null; then
  echo "format: no clang-format-14. Run scripts/setup.sh" >&2
  exit 1
fi
find engine proto stream apps examples test perf -type f -regex '.*\.\(cpp\|hpp\|c\|h\)' -print0 |
  xargs --null clang-format-14 -i

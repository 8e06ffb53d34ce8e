#!/usr/bin/env bash
# The whole comparison with one command: sets up, builds pelton and its peers, measures them side
# by side, writes runs, report and charts. The measuring itself is perf/compare/main.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian's own: the charts' matplotlib is a package of it, and not of other pythons in the PATH.
python=/usr/bin/python3
compare=("$python" -B perf/compare/main.py)

for option in "$@"; do
  case "$option" in
    -h | --help | --list | --report-only | --no-setup)
      if [[ ! -x "$python" ]]; then
        echo "bench: no $python. Run scripts/setup.sh --bench" >&2
        exit 2
      fi
      exec "${compare[@]}" "$@"
      ;;
  esac
done

# What is wrong with the options is told before anything is installed or built.
if [[ -x "$python" ]]; then
  "${compare[@]}" --validate "$@" || exit
fi
scripts/setup.sh --bench
cmake --preset release
cmake --build --preset release --target pelton-echo pelton-proxy perf/all
# A peer that cannot be built is named in the report, and does not keep the rest from being.
scripts/peers.sh || echo "bench: not all peers could be built; the report names them" >&2
exec "${compare[@]}" "$@"

#!/usr/bin/env bash
# Builds the servers that pelton is compared with (perf/peers/README.md), or lists them as JSON.
# All of the work is in perf/peers/peers.py; --help tells the options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python3 -B perf/peers/peers.py "$@"

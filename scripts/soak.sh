#!/usr/bin/env bash
# Runs pelton-echo and pelton-proxy for minutes or hours under a mixed load with faults, and fails
# if they lose a byte, a descriptor, a buffer, an operation or memory. --help tells the options; all
# of the work is in test/soak/soak.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Debian's own: the picture's matplotlib is a package of it, and not of other pythons in the PATH.
python=/usr/bin/python3
[[ -x "$python" ]] || python=python3
exec "$python" -B test/soak/soak.py "$@"

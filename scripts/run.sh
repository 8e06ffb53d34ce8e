#!/usr/bin/env bash
# From a fresh checkout to a running echo server: sets up, builds, serves in the foreground.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/run.sh [OPTION of pelton-echo]...

Installs what is missing, builds pelton-echo and runs it. Without a --listen of yours it serves on
127.0.0.1:8888. Ctrl-C ends it. `build/release/bin/pelton-echo --help` lists its options.
TEXT
}

listen=(--listen 127.0.0.1:8888)
for option in "$@"; do
  case "$option" in
    -h | --help) usage && exit 0 ;;
    --listen | --listen=*) listen=() ;;
  esac
done

scripts/setup.sh --minimal
if [[ ! -f build/release/build.ninja ]]; then
  # What is not needed to run is not asked for; scripts/test.sh turns it on again.
  cmake --preset release -D PELTON_BUILD_TESTS=OFF -D PELTON_BUILD_EXAMPLES=OFF \
    -D PELTON_BUILD_PERF=OFF
fi
cmake --build --preset release --target pelton-echo

if ((${#listen[@]})); then
  cat <<'TEXT'

Talk to it from another terminal; what you type comes back:
    nc 127.0.0.1 8888
    python3 -c 'import socket; s = socket.create_connection(("127.0.0.1", 8888));'\
        's.send(b"hello\n"); print(s.recv(100))'
Ctrl-C ends it.

TEXT
fi
exec build/release/bin/pelton-echo "${listen[@]}" "$@"

#!/usr/bin/env bash
# Installs the Debian packages that pelton needs. Run it as often as you like: it installs only
# what is missing, and starts no service.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [--minimal | --bench | --container] [--list]

  --minimal    only what building and running pelton-echo and pelton-proxy needs
  --bench      also what scripts/bench.sh compares pelton with, and draws its charts with
  --container  also what scripts/docker.sh builds images with where there is no docker or podman
  --list       print the packages and install nothing

Without options: what building, the tests, the other compiler and the formatter need.
TEXT
}

# What builds and runs the programs.
minimal_packages=(
  g++ cmake ninja-build pkg-config
  liburing-dev libspdlog-dev libcli11-dev
)
# The tests: the framework, the drivers, the second compiler with its sanitizers, the formatter
# whose verdict counts, and the clients and servers that pelton is tried with.
test_packages=(
  python3 doctest-dev
  clang-19 libclang-rt-19-dev llvm-19 clang-format-14
  redis-tools redis-server iperf3 strace
  libbenchmark-dev valgrind nlohmann-json3-dev python3-matplotlib
)
# The peers of the benchmark suite: languages, libraries, proxies. Compared with, never linked.
bench_packages=(
  libasio-dev libuv1-dev golang-go nodejs python3-uvloop
  rustc cargo librust-tokio-dev
  haproxy nginx libnginx-mod-stream
  sockperf linux-perf
)
# Images without a docker engine: scripts/docker.sh with buildah.
container_packages=(buildah debootstrap ca-certificates fuse-overlayfs)

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

is_installed() {
  [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

# Packages of servers start their service when installed, unless this file says no (exit code
# 101). Whatever was there before is put back, also when apt-get fails; and where an earlier run
# was killed before it could do so, by the next one.
policy=/usr/sbin/policy-rc.d
policy_backup="$policy.pelton-setup"
restore_policy() {
  "${as_root[@]}" rm -f "$policy"
  if [[ -e "$policy_backup" ]]; then "${as_root[@]}" mv -f "$policy_backup" "$policy"; fi
}
forbid_services() {
  trap restore_policy EXIT
  if [[ -e "$policy" && ! -e "$policy_backup" ]]; then
    "${as_root[@]}" mv -f "$policy" "$policy_backup"
  fi
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
}

install() {
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet)
  say "installing: $*"
  forbid_services
  "${apt[@]}" update || say "apt-get update failed; trying with the package lists of before"
  "${apt[@]}" install --no-install-recommends "$@" ||
    die "apt-get install failed: pelton needs Debian 12 or newer, for each of: $*"
  # It was installed for the tests, which start their own; a machine that reboots needs none.
  if [[ " $* " == *" redis-server "* && -d /run/systemd/system ]]; then
    "${as_root[@]}" systemctl --quiet disable redis-server.service
  fi
}

packages=("${minimal_packages[@]}" "${test_packages[@]}")
list_only=no
for option in "$@"; do
  case "$option" in
    --minimal) packages=("${minimal_packages[@]}") ;;
    --bench) packages+=("${bench_packages[@]}") ;;
    --container) packages+=("${container_packages[@]}") ;;
    --list) list_only=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
if [[ $list_only == yes ]]; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "this machine has no apt-get. pelton is set up on Debian 12; elsewhere install the" \
    "counterparts of: ${packages[*]}"
fi

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  say "all ${#packages[@]} packages are installed"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || die "not root, and no sudo. As root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi
install "${missing[@]}"
say "done: installed ${#missing[@]} packages"

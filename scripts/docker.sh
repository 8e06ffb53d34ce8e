#!/usr/bin/env bash
# Builds pelton's images and runs them, with docker, podman or buildah, whichever works here.
#
# The images are the targets of the Dockerfile. What runs gets scripts/seccomp.json, which is
# Docker's default profile and the three calls of io_uring, and the limits that rings and many
# connections need. docs/containers.md tells how to do without this script. Neighbours:
# container_base.sh makes the base where no registry is, seccomp.py other forms of the profile.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

usage() {
  cat <<'TEXT'
usage: scripts/docker.sh [OPTION]... COMMAND

  run echo|proxy [ARG]...     serves: pelton-echo or pelton-proxy with these arguments
  test [ARG]...               runs the tests: scripts/test.sh --no-setup ARG... (default: --quick)
  perf [ARG]...               measures: scripts/bench.sh --no-setup ARG... (default: --quick), and
                              copies what it wrote to build/bench/container
  exec TARGET COMMAND ARG...  runs any command in a container of that image
  build [TARGET]              only builds: runtime (default), build, test or perf
  base                        makes the base of --base debootstrap anew

  --engine NAME     docker, podman or buildah (default: the first of them that works)
  --base IMAGE      what images rest on: an image of Debian 12, or the word `debootstrap`, which
                    makes one from this machine's apt mirror (default: debian:12-slim; with
                    buildah debootstrap)
  --no-build        runs the image that is there
  --seccomp FILE    another seccomp profile; `default` is the engine's own
  --memlock BYTES   limit of locked memory (default: unlimited, or what is allowed here)
  --nofile N        limit of open files (default: 1048576, or what is allowed here)
  --publish PORTS   with `run`, docker and podman: HOST:CONTAINER ports instead of the host's
                    network; then listen on 0.0.0.0
  --results DIR     with `perf`: copies to DIR instead
  --storage DIR     with buildah: keep images and containers there

Exit status: the program's own; 125 if no container could be started; 2 for bad usage.
TEXT
}

say() { printf 'docker.sh: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 125
}
bad_usage() {
  say "$*"
  usage >&2
  exit 2
}

# --- which engine

buildah=(buildah)

# A client is no engine: each is asked for something that only a working one can answer.
docker_works() { timeout 15 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
podman_works() { timeout 30 podman info >/dev/null 2>&1; }
buildah_works() {
  timeout 30 "${buildah[@]}" info >/dev/null 2>&1 && return 0
  [[ -z "${STORAGE_DRIVER:-}" ]] || return 1
  # Within a container overlays cannot be stacked; plain copies always work, and take more room.
  STORAGE_DRIVER=vfs timeout 30 "${buildah[@]}" info >/dev/null 2>&1 || return 1
  export STORAGE_DRIVER=vfs
}

# Why an engine is not to be had; nothing if it works.
why_not() {
  command -v "$1" >/dev/null || { echo "not installed" && return; }
  "$1_works" && return
  case "$1" in
    docker) echo "its engine does not answer: start the daemon, or see \`docker version\`" ;;
    podman) echo "\`podman info\` fails" ;;
    buildah) echo "\`buildah info\` fails" ;;
  esac
}

find_engine() {
  local candidates=(docker podman buildah) name why reasons=""
  if [[ -n "$engine" ]]; then candidates=("$engine"); fi
  for name in "${candidates[@]}"; do
    # Not in a subshell: buildah_works leaves behind which storage driver it works with.
    why_not "$name" >"$scratch/why"
    why="$(cat "$scratch/why")"
    if [[ -z "$why" ]]; then
      engine="$name"
      return
    fi
    reasons+=$'\n'"  $name: $why"
  done
  die "no engine to build and run images with:$reasons"$'\n'\
"  remedy: install docker or podman, or run scripts/setup.sh --container for buildah"
}

# --- images

base_name=pelton-base:12

has_image() {
  case "$engine" in
    buildah) "${buildah[@]}" inspect --type image "$1" >/dev/null 2>&1 ;;
    *) "$engine" image inspect "$1" >/dev/null 2>&1 ;;
  esac
}

make_base() {
  local tar="$scratch/base.tar" made
  say "making $base_name with debootstrap"
  "$root/scripts/container_base.sh" "$tar" >&2 || die "there is no base to build on"
  case "$engine" in
    buildah)
      made="$("${buildah[@]}" from scratch)"
      "${buildah[@]}" add --quiet "$made" "$tar" / >/dev/null
      "${buildah[@]}" commit --quiet --rm "$made" "$base_name" >/dev/null
      ;;
    *) "$engine" import "$tar" "$base_name" >/dev/null ;;
  esac
  rm -f "$tar"
}

build_image() {
  local target="$1" arguments=(--target "$1" --tag "pelton-$1")
  if [[ -z "$base" && "$engine" == buildah ]]; then base=debootstrap; fi
  if [[ "$base" == debootstrap ]]; then
    has_image "$base_name" || make_base
    # Its apt mirror may be one that only this machine reaches.
    arguments+=(--build-arg "BASE_IMAGE=$base_name" --network host)
  elif [[ -n "$base" ]]; then
    arguments+=(--build-arg "BASE_IMAGE=$base")
  fi
  say "building pelton-$target with $engine"
  case "$engine" in
    # BuildKit skips the stages that a target does not need; the builder before it builds them all.
    docker) DOCKER_BUILDKIT="${DOCKER_BUILDKIT:-1}" docker build "${arguments[@]}" "$root" >&2 ;;
    podman) podman build "${arguments[@]}" "$root" >&2 ;;
    buildah) "${buildah[@]}" build --layers "${arguments[@]}" "$root" >&2 ;;
  esac || die "the image pelton-$target could not be built; the messages are above"
}

have_image() {
  if [[ $build == yes ]]; then
    build_image "$1"
  else
    has_image "pelton-$1" || die "no image pelton-$1: leave --no-build away"
  fi
}

# --- limits and profile of what runs

# Limits set by a daemon of root's may be any; else this shell's hard limits bound them.
limits_are_ours() {
  [[ $engine == docker ]] || return 0
  docker info --format '{{.SecurityOptions}}' 2>/dev/null | grep -q rootless
}

# limit FLAG WANTED: WANTED if it may be had here, else the hard limit, as `ulimit` prints it.
limit() {
  if ! limits_are_ours || (ulimit -H "-$1" "$2") 2>/dev/null; then
    echo "$2"
  else
    ulimit -H "-$1"
  fi
}

set_limits() {
  local bytes="$memlock" files="$nofile"
  if [[ -z "$bytes" ]]; then
    bytes="$(limit l unlimited)"
    if [[ "$bytes" == unlimited ]]; then
      bytes=-1
    else
      say "this shell may lock $bytes KiB of memory and no more: enough for a few dozen rings"
      bytes=$((bytes * 1024))
    fi
  fi
  if [[ -z "$files" ]]; then files="$(limit n 1048576)"; fi
  security=(--ulimit "memlock=$bytes:$bytes" --ulimit "nofile=$files:$files")
  if [[ "$seccomp" != default ]]; then
    [[ -r "$seccomp" ]] || die "cannot read the seccomp profile $seccomp"
    security+=(--security-opt "seccomp=$seccomp")
  fi
}

# --- running

container=""

clean_up() {
  if [[ -n "$container" ]]; then
    case "$engine" in
      buildah) "${buildah[@]}" rm "$container" >/dev/null 2>&1 ;;
      *) "$engine" rm --force "$container" >/dev/null 2>&1 ;;
    esac || true
  fi
  rm -rf "$scratch"
}

children() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }

# told_to_end PID: hands a SIGTERM or SIGINT of this script on. The clients of docker and podman
# pass it to the container; buildah would kill what it runs. There the program itself is told,
# third in line below buildah and the two processes of its isolation by chroot.
told_to_end() {
  local pid="$1" next
  if [[ $engine == buildah ]]; then
    for _ in 1 2 3; do
      next="$(children "$pid")"
      # Not there yet, or no more: nothing has begun that wants to end in order.
      if [[ -z "$next" ]]; then pid="$1" && break; fi
      pid="${next%% *}"
    done
  fi
  kill -TERM "$pid" 2>/dev/null || true
}

# Runs a command in the background, so that signals can be handed on while it runs.
run_and_wait() {
  local pid="" status ended=no
  trap 'ended=yes; [[ -z "$pid" ]] || told_to_end "$pid"' TERM INT
  "$@" <&0 &
  pid=$!
  [[ $ended == no ]] || told_to_end "$pid"
  # wait returns early, and above 128, when a signal comes; the program is then about to end.
  while true; do
    wait "$pid" && status=0 || status=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  trap - TERM INT
  return "$status"
}

# run_image IMAGE NETWORK COMMAND [ARGUMENT]...: NETWORK is an option of docker and podman, or "".
run_image() {
  local image="$1" network="$2" command="$3" options
  shift 3
  set_limits
  if [[ $engine == buildah ]]; then
    container="$("${buildah[@]}" from "${security[@]}" "$image")"
    run_and_wait "${buildah[@]}" run "$container" -- "$command" "$@"
    return
  fi
  container="pelton-$$"
  options=(--name "$container" "${security[@]}" --entrypoint "$command")
  if [[ -n "$network" ]]; then options+=("$network"); fi
  if [[ -t 0 && -t 1 ]]; then
    # A terminal belongs to what runs in the foreground, and its Ctrl-C goes there.
    "$engine" run --interactive --tty "${options[@]}" "$image" "$@"
  else
    run_and_wait "$engine" run "${options[@]}" "$image" "$@"
  fi
}

# Copied, not mounted: that works with an engine elsewhere too, and the files are the caller's.
copy_results() {
  local from="/src/$1" status=0
  mkdir -p "$results"
  if [[ $engine == buildah ]]; then
    from="$("${buildah[@]}" mount "$container")$from"
    cp -r "$from/." "$results/" 2>/dev/null || status=1
    "${buildah[@]}" umount "$container" >/dev/null
  else
    "$engine" cp "$container:$from/." "$results/" >/dev/null 2>&1 || status=1
  fi
  return "$status"
}

# --- commands

run_command() {
  local network=--network=host program
  (($#)) || bad_usage "run what? echo or proxy"
  case "$1" in
    echo | proxy) program="pelton-$1" ;;
    *) bad_usage "run '$1'? echo or proxy" ;;
  esac
  shift
  if [[ -n "$publish" ]]; then
    [[ $engine != buildah ]] ||
      bad_usage "--publish is not for buildah, whose containers share the host's network"
    network="--publish=$publish"
  fi
  if (($# == 0)) && [[ $program == pelton-echo ]]; then set -- --listen 0.0.0.0:8888; fi
  have_image runtime
  run_image pelton-runtime "$network" "$program" "$@"
}

test_command() {
  (($#)) || set -- --quick
  have_image test
  run_image pelton-test "" scripts/test.sh --no-setup "$@"
}

perf_command() {
  local out=build/bench/container status=0
  (($#)) || set -- --quick
  have_image perf
  run_image pelton-perf "" scripts/bench.sh --no-setup --out "$out" "$@" || status=$?
  if copy_results "$out"; then
    say "what it wrote is in $results"
  else
    rmdir "$results" 2>/dev/null || true
    say "it wrote nothing"
  fi
  return "$status"
}

exec_command() {
  (($# > 1)) || bad_usage "exec needs a target and a command"
  is_target "$1"
  have_image "$1"
  local image="pelton-$1"
  shift
  run_image "$image" "" "$@"
}

build_command() {
  (($# < 2)) || bad_usage "build takes one target"
  is_target "${1:-runtime}"
  build_image "${1:-runtime}"
}

is_target() {
  case "$1" in
    build | test | perf | runtime) ;;
    *) bad_usage "no target '$1': build, test, perf or runtime" ;;
  esac
}

engine="" base="" build=yes publish="" memlock="" nofile="" storage=""
seccomp="$root/scripts/seccomp.json"
results="$root/build/bench/container"
security=()
while (($#)); do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    --no-build) build=no ;;
    --engine | --base | --seccomp | --memlock | --nofile | --publish | --results | --storage)
      (($# > 1)) || bad_usage "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    -*) bad_usage "no option $1" ;;
    *) break ;;
  esac
  shift
done
case "$engine" in
  "" | docker | podman | buildah) ;;
  *) bad_usage "no engine '$engine': docker, podman or buildah" ;;
esac
[[ "$memlock" =~ ^(|-1|[0-9]+)$ ]] || bad_usage "--memlock '$memlock': a number of bytes, or -1"
[[ "$nofile" =~ ^[0-9]*$ ]] || bad_usage "--nofile '$nofile': a number"
command="${1:-}"
case "$command" in
  run | test | perf | exec | build | base) shift ;;
  "") bad_usage "no command" ;;
  *) bad_usage "no command '$command'" ;;
esac

scratch="$(mktemp -d)"
trap clean_up EXIT
export BUILDAH_ISOLATION=chroot
if [[ -n "$storage" ]]; then
  mkdir -p "$storage"
  storage="$(cd "$storage" && pwd)"
  buildah+=(--root "$storage/root" --runroot "$storage/run")
fi
find_engine
if [[ $command == base ]]; then make_base; else "${command}_command" "$@"; fi

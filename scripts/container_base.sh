#!/usr/bin/env bash
# Makes the base of the images where no registry can be reached: Debian's smallest system, as a tar
# archive that scripts/docker.sh gives to the engine. The Dockerfile's other base is
# debian:12-slim; this one is trimmed like it.
#
# The archive has this machine's apt mirror and proxy in it, so that packages can be installed
# while an image is built: an image made on it is for this machine, not for a registry.
set -euo pipefail

suite=bookworm

usage() {
  cat <<'TEXT'
usage: scripts/container_base.sh [--mirror URL] FILE.tar

Writes a minimal Debian 12 to FILE.tar, by debootstrap, as root.

  --mirror URL  where packages come from (default: where this machine's apt gets them)
TEXT
}

die() {
  printf 'container_base: %s\n' "$*" >&2
  exit 1
}

mirror=""
file=""
while (($#)); do
  case "$1" in
    --mirror)
      (($# > 1)) || { usage >&2 && exit 2; }
      mirror="$2" && shift
      ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) [[ -z "$file" ]] || { usage >&2 && exit 2; }; file="$1" ;;
  esac
  shift
done
[[ -n "$file" ]] || { usage >&2 && exit 2; }

# "SITE RELEASE COMPONENT" of each source of packages of this machine's apt.
sources() {
  command -v apt-get >/dev/null || return 0
  apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' | sort -u
}

# The lines of the image's sources.list: Debian's own archives only, as others have keys that the
# image lacks. Without any, the mirror alone.
sources_list() {
  local lines
  lines="$(sources | awk -v suite="$suite" \
    '$2 == suite || $2 == suite "-updates" || $2 == suite "-security" { print "deb", $0 }')"
  if [[ -n "$mirror" || -z "$lines" ]]; then
    lines="deb $site $suite main"
  fi
  printf '%s\n' "$lines"
}

# How this machine's apt reaches its mirror: proxies, and what it does not check about dates.
apt_settings() {
  command -v apt-config >/dev/null || return 0
  apt-config dump | grep -E '^Acquire::(https?::|Check-|Max-ValidTime|Retries|Force)' || true
}

# What debian:12-slim leaves out too: documentation but the licences, translations, caches.
trim() {
  local root="$1"
  find "$root/usr/share/doc" -mindepth 1 ! -type d ! -name copyright -delete
  find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
  rm -rf "$root"/usr/share/{man,info,locale,groff,lintian,linda}/*
  rm -rf "$root"/var/cache/{apt,debconf,ldconfig}/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
  mkdir -p "$root"/var/cache/apt/archives/partial "$root"/var/lib/apt/lists/partial \
    "$root"/var/log/apt
  cat >"$root/etc/dpkg/dpkg.cfg.d/90trim" <<'TEXT'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/lintian/*
TEXT
  printf 'APT::Keep-Downloaded-Packages "false";\nDir::Cache::pkgcache "";\n%s\n' \
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };' \
    >"$root/etc/apt/apt.conf.d/90trim"
}

((EUID == 0)) || die "not root: debootstrap makes device files and owners, which only root may"
command -v debootstrap >/dev/null || die "no debootstrap. Run scripts/setup.sh --container"
site="${mirror:-$(sources | awk -v suite="$suite" '$2 == suite { print $1; exit }')}"
[[ -n "$site" ]] || die "this machine's apt has no source of Debian $suite. Say --mirror URL"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
root="$work/root"
proxy="$(apt_settings | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p' | head -n 1)"
if [[ -n "$proxy" ]]; then export http_proxy="${http_proxy:-$proxy}"; fi
if ! debootstrap --variant=minbase "$suite" "$root" "$site" >"$work/log" 2>&1; then
  tail -n 20 "$work/log" >&2
  die "debootstrap of $suite failed. Does \`apt-get update\` work here?"
fi
trim "$root"
sources_list >"$root/etc/apt/sources.list"
apt_settings >"$root/etc/apt/apt.conf.d/90mirror"
tar --numeric-owner --one-file-system -C "$root" -cf "$file" .
printf 'container_base: %s, %s MB\n' "$file" "$(($(stat -c %s "$file") / 1000000))"

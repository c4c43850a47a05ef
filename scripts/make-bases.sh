#!/usr/bin/env bash
# Makes the base root file systems of the demo, the tests and the benchmarks
# from Debian packages: one tarball each, ready for `dram import`.
#
#   scripts/make-bases.sh [OUTDIR [BASE…]]
#
#   elixir-1.14        Debian bookworm with Elixir 1.14, Erlang/OTP 25 and mix
#   demo-base          busybox and the shared libraries an OTP release needs; no Erlang
#   debian-small       a small Debian bookworm with the same libraries; no Erlang
#
# OUTDIR is .demo/bases of the checkout by default; without BASE, `elixir-1.14`
# and `demo-base` are made. A tarball that this very script made before is kept,
# so a second run takes no time.
#
# Debian's packages come from the mirror that this machine's apt uses. Set
# DEMO_MIRROR to the address of a Debian archive to use that one.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
out=${1:-$root/.demo/bases}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- elixir-1.14 demo-base

suite=bookworm
# All times in the tarballs are cut off here, so that the same packages give the same bytes.
export SOURCE_DATE_EPOCH=1700000000
export LC_ALL=C.UTF-8
umask 022

say() { printf 'bases: %s\n' "$*"; }
die() {
  printf 'make-bases.sh: %s\n' "$*" >&2
  exit 1
}

# shellcheck source=scripts/debian-sources.sh
. "$here/debian-sources.sh"

# debian TARGET VARIANT PACKAGES [OPTION…]: a root file system, without device
# nodes, documentation, translations, package lists, logs or this machine's name.
# The files that a runtime mounts over are there, and empty.
debian() {
  local target=$1 variant=$2 packages=$3 hook=customize lines=() proxy key path
  shift 3
  mapfile -t lines < <(debian_sources "$suite")
  [ ${#lines[@]} -gt 0 ] || die "no Debian archive in /etc/apt; set DEMO_MIRROR to the address of one"
  local options=(--quiet --format=tar "--variant=$variant" "--include=$packages" --skip=output/dev)
  for key in Acquire::http::Proxy Acquire::https::Proxy; do
    proxy=$(apt-config dump --format '%v%n' "$key" | tail -n 1)
    [ -z "$proxy" ] || options+=("--aptopt=$key \"$proxy\"")
  done
  [ "$(id -u)" -ne 0 ] || options+=(--mode=root)
  for path in doc man info locale lintian bug; do
    options+=("--dpkgopt=path-exclude=/usr/share/$path/*")
  done
  # Where packages are unpacked but not installed, the last hook is another one.
  [ "$variant" != extract ] || hook=extract
  # shellcheck disable=SC2016 # mmdebstrap gives its hooks the root file system as $1
  options+=("--$hook-hook="'cd "$1" && rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale \
    usr/share/lintian usr/share/bug var/log/* var/cache/* var/lib/apt/lists/* etc/machine-id \
    var/lib/dbus/machine-id etc/apt/apt.conf.d/99mmdebstrap etc/hostname etc/resolv.conf &&
    touch etc/hostname etc/hosts etc/resolv.conf && chmod 644 etc/host* etc/resolv.conf')
  mmdebstrap "${options[@]}" "$@" "$suite" "$target" "${lines[@]}"
  # An empty /dev, to mount on.
  local empty
  empty=$(mktemp -d)
  mkdir "$empty/dev"
  tar --append --file "$target" --directory "$empty" --numeric-owner --owner=0 --group=0 \
    --mode=755 --mtime="@$SOURCE_DATE_EPOCH" ./dev
  rm -r "$empty"
}

make_elixir-1.14() {
  # What `mix release` loads, and no more: no C compiler, no graphics.
  debian "$1" apt elixir,erlang-base,erlang-crypto,erlang-ssl,erlang-public-key,erlang-asn1,\
erlang-inets,erlang-syntax-tools,erlang-tools,erlang-parsetools,erlang-eunit,erlang-runtime-tools,ca-certificates
}

make_debian-small() {
  debian "$1" minbase libssl3,libtinfo6,libstdc++6,zlib1g,ca-certificates
}

make_demo-base() {
  # Unpacked, not installed: there is no dpkg, no perl and no bash in it.
  # shellcheck disable=SC2016
  debian "$1" extract busybox-static,libc6,libssl3,libtinfo6,libstdc++6,libgcc-s1,zlib1g \
    --skip=cleanup/apt --skip=cleanup/mmdebstrap \
    --extract-hook='cd "$1" && rm -rf etc/apt etc/dpkg var/lib/apt var/lib/dpkg usr/share etc/fstab \
      usr/lib/*/gconv usr/lib/*/perl* usr/lib/*/audit lib/*/audit' \
    --extract-hook='cd "$1" && mkdir -p bin sbin usr/bin usr/sbin proc sys dev root home \
      tmp var/tmp && chmod 700 root && chmod 1777 tmp var/tmp && chroot . /bin/busybox --install -s' \
    --extract-hook='cd "$1" && echo "root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false" >etc/passwd && echo "root:x:0:
nogroup:x:65534:" >etc/group && echo "hosts: files dns" >etc/nsswitch.conf'
}

# A base's mark names all that decides its content; packages that Debian
# updates later do not count, as for any base image that was pulled once.
mark=$(cat "${BASH_SOURCE[0]}" "$here/debian-sources.sh" | sha256sum | cut -d ' ' -f 1)
mkdir -p "$out"

make_one() {
  local name=$1 tarball=$out/$1.tar began=$SECONDS
  rm -f "$tarball.mark" "$tarball.part"
  "make_$name" "$tarball.part"
  mv "$tarball.part" "$tarball"
  printf '%s\n' "$mark" >"$tarball.mark"
  say "$name.tar: $(du -m --apparent-size "$tarball" | cut -f 1) MB, made in $((SECONDS - began)) s"
}

jobs=()
for name; do
  declare -F "make_$name" >/dev/null || die "no such base: $name"
  if [ -s "$out/$name.tar" ] && [ "$(cat "$out/$name.tar.mark" 2>/dev/null)" = "$mark" ]; then
    say "$name.tar: here already"
    continue
  fi
  command -v mmdebstrap >/dev/null || die "mmdebstrap is missing; scripts/install-needs.sh demo installs it"
  say "$name.tar: making it from Debian packages …"
  make_one "$name" &
  jobs+=($!)
done
failed=0
for job in ${jobs[@]+"${jobs[@]}"}; do
  wait "$job" || failed=1
done
[ "$failed" -eq 0 ] || die "a base could not be made"

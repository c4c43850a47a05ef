#!/usr/bin/env bash
# Compiles the workspace for aarch64, the other machine that dram is built for: `cargo check`, and the start program linked.
#
#   scripts/check-aarch64.sh [ARGUMENTS OF cargo check]
#
# Where rustup has the target (`rustup target add aarch64-unknown-linux-gnu`) and there is a cross compiler, those are used.
# Elsewhere Debian's compiler and standard library are unpacked into .demo/aarch64 once, as root: two minutes, 1.5 GB.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=aarch64-unknown-linux-gnu
gcc=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$gcc CC_aarch64_unknown_linux_gnu=$gcc
check=(check --workspace --all-targets --locked --target "$target" "$@")

if command -v "$gcc" >/dev/null && [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
  exec cargo "${check[@]}"
fi

root=.demo/aarch64
if [ ! -e "$root/usr/bin/$gcc" ]; then
  if [ "$(id -u)" -ne 0 ]; then
    printf 'check-aarch64.sh: run it as root, or add the target %s to rustup and install %s\n' "$target" "$gcc" >&2
    exit 1
  fi
  scripts/install-needs.sh demo
  # A release whose rustc is as new as Cargo.toml wants. Nothing in it is started but compilers: its packages are only
  # unpacked. Its signatures may have expired where a mirror stands still, as they may for apt on such a machine.
  packages=base-files,dash,coreutils,cargo,rustc,libstd-rust-dev:arm64,gcc,libc6-dev
  packages+=,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross
  valid=$(apt-config dump --format '%v%n' Acquire::Check-Valid-Until | tail -n 1)
  # shellcheck source=scripts/debian-sources.sh
  . scripts/debian-sources.sh
  mapfile -t lines < <(debian_sources forky)
  rm -rf "$root.new"
  mkdir -p .demo
  mmdebstrap --quiet --mode=root --variant=extract --architectures=amd64,arm64 "--include=$packages" \
    --aptopt="Acquire::Check-Valid-Until \"${valid:-true}\"" --aptopt='Acquire::Languages "none"' \
    forky "$root.new" "${lines[@]}"
  # Installing the packages would have made this link.
  ln -s gcc "$root.new/usr/bin/cc"
  mv "$root.new" "$root"
fi

# Its cargo reads the sources and the crates from outside, and fetches nothing itself.
cargo fetch --quiet --locked --target "$target"
cargo fetch --quiet --locked --target "$(rustc -vV | sed -n 's/^host: //p')"
mkdir -p "$root"/{src,cargo,proc,dev} target/aarch64
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# shellcheck disable=SC2016 # the inner shell expands it
unshare --mount bash -euc '
  root=$1 cargo_home=$2
  shift 2
  mount --bind . "$root/src"
  mount --bind "$cargo_home" "$root/cargo"
  mount --bind /proc "$root/proc"
  mount --bind /dev "$root/dev"
  exec chroot "$root" /usr/bin/env CARGO_HOME=/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=/src/target/aarch64 \
    PATH=/usr/bin:/bin sh -c "cd /src && exec cargo \"\$@\"" sh "$@"
' bash "$root" "$cargo_home" "${check[@]}"

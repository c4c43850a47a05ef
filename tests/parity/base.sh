#!/usr/bin/env bash
# Makes the root file system that every case builds from (`FROM parity-base`):
# busybox, a few users, and some files for the cases to remove and replace.
#
#   tests/parity/base.sh OUT.tar
#
# Needs a static busybox on this machine, and no root. Import it with PATH in
# its environment, as a base image has it.
set -euo pipefail

out=$1
busybox=$(command -v busybox) || {
  echo 'base.sh: busybox is missing; scripts/install-needs.sh test installs it' >&2
  exit 1
}
if ldd "$busybox" >/dev/null 2>&1; then
  echo 'base.sh: this busybox is not static; install busybox-static' >&2
  exit 1
fi
umask 022
fs=$(mktemp -d)
trap 'rm -rf "$fs"' EXIT

mkdir -p "$fs"/{bin,dev,etc,home/app,proc,root,run,srv,sys,tmp,usr/bin,usr/share/base/deep/er,var/log}
cp "$busybox" "$fs/bin/busybox"
chmod 755 "$fs/bin/busybox"
for applet in $("$busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$fs/bin/$applet"
done
ln -s /bin/env "$fs/usr/bin/env"

cat >"$fs/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
other:x:1001:50:other:/:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
END
cat >"$fs/etc/group" <<'END'
root:x:0:
daemon:x:1:
staff:x:50:app
app:x:1000:
nogroup:x:65534:
END
echo one >"$fs/usr/share/base/one"
echo two >"$fs/usr/share/base/two"
echo three >"$fs/usr/share/base/deep/three"
echo four >"$fs/usr/share/base/deep/er/four"
echo setting=1 >"$fs/etc/base.conf"
: >"$fs/etc/hostname"
: >"$fs/etc/hosts"
: >"$fs/etc/resolv.conf"
ln -s base "$fs/usr/share/link-to-base"
ln -s /usr/share/base/one "$fs/usr/share/link-to-one"
ln "$fs/usr/share/base/two" "$fs/usr/share/base/two-again"
chmod 755 "$fs"
chmod 1777 "$fs/tmp"
chmod 700 "$fs/root"

# app's home is app's; all else is root's.
tar --create --file "$out" --format=gnu --sort=name --mtime=@1700000000 --numeric-owner \
  --owner=0 --group=0 --directory "$fs" --exclude=./home/app .
tar --append --file "$out" --format=gnu --mtime=@1700000000 --numeric-owner \
  --owner=1000 --group=1000 --directory "$fs" ./home/app

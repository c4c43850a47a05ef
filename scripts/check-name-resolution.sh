#!/usr/bin/env bash
# Checks that the program finds the addresses of names in root directories of other distributions, with each `hosts` line of
# /etc/nsswitch.conf that they are known to have.
#
#   scripts/check-name-resolution.sh [DRAM [SUITE…]]
#
# DRAM is target/x86_64-unknown-linux-gnu/debug/dram by default; SUITE is bookworm, trixie and forky. The root directories are
# made once, in .demo/name-resolution: Debian's, with its NSS modules of systemd, and one as small as Alpine's, without a
# /etc/nsswitch.conf. The name server and the registry are in a network namespace of their own, so nothing is asked of others.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
dram=$(realpath "${1:-$root/target/x86_64-unknown-linux-gnu/debug/dram}")
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- bookworm trixie forky
place=$root/.demo/name-resolution
[ "$(id -u)" -eq 0 ] || { printf 'check-name-resolution.sh: run it as root\n' >&2; exit 1; }
# shellcheck source=scripts/debian-sources.sh
. "$here/debian-sources.sh"

mkdir -p "$place/small/etc" "$place/small/proc" "$place/small/dev"
for suite in "$@"; do
  [ -e "$place/$suite/etc/debian_version" ] && continue
  mapfile -t lines < <(debian_sources "$suite")
  options=(--quiet --mode=root --variant=essential '--include=libnss-myhostname,libnss-resolve')
  valid=$(apt-config dump --format '%v%n' Acquire::Check-Valid-Until | tail -n 1)
  options+=("--aptopt=Acquire::Check-Valid-Until \"${valid:-true}\"")
  rm -rf "$place/$suite.new"
  mmdebstrap "${options[@]}" "$suite" "$place/$suite.new" "${lines[@]}"
  mv "$place/$suite.new" "$place/$suite"
done

# shellcheck disable=SC2089,SC2090 # a program, which is passed on as it is
# The name server answers for dns.test, the registry for every name, that it has no image.
servers='
import http.server, socket, threading
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = b"{\"errors\": [{\"code\": \"MANIFEST_UNKNOWN\", \"message\": \"the registry was reached\"}]}"
        self.send_response(404); self.send_header("Content-Length", str(len(text))); self.end_headers(); self.wfile.write(text)
    do_HEAD = do_GET
    def log_message(self, *words): pass
threading.Thread(target=http.server.ThreadingHTTPServer(("0.0.0.0", 5000), Registry).serve_forever, daemon=True).start()
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); names.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    asked, client = names.recvfrom(4096)
    end = asked.index(0, 12) + 5
    known, is_ipv4 = asked[12:end].lower().startswith(b"\3dns\4test\0"), asked[end - 4:end - 2] == b"\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\2" if known and is_ipv4 else b""
    flags = b"\x85\x80" if known else b"\x85\x83"
    names.sendto(asked[:2] + flags + b"\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0" + asked[12:end] + answer, client)
'

check_all() {
  ip link set lo up
  exec 3< <(exec python3 -c "$servers")
  server=$!
  trap 'kill $server' EXIT
  read -r _ <&3
  local failed=0 suite line name wanted
  for suite in small "$@"; do
    local at=$place/$suite
    mount -t proc proc "$at/proc"
    touch "$at/dev/null" && mount --bind /dev/null "$at/dev/null"
    cp "$dram" "$at/dram"
    printf '127.0.0.1 localhost\n127.0.0.3 file.test\n' >"$at/etc/hosts"
    rm -f "$at/etc/resolv.conf"
    printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' >"$at/etc/resolv.conf"
    mkdir -p "$at/etc/containers"
    for name in file.test dns.test none.test; do
      printf '[[registry]]\nlocation = "%s:5000"\ninsecure = true\n' "$name"
    done >"$at/etc/containers/registries.conf"
    while read -r line; do
      rm -f "$at/etc/nsswitch.conf"
      [ "$line" = none ] || printf 'passwd: files systemd\nhosts: %s\n' "$line" >"$at/etc/nsswitch.conf"
      while read -r name wanted; do
        local code=0 said
        said=$(DRAM_STORE=/store chroot "$at" /dram pull "$name:5000/x:1" 2>&1) || code=$?
        if ! [[ $said =~ $wanted ]] || [ "$code" -eq 0 ] || [ "$code" -ge 5 ]; then
          printf 'FAILED: %s, hosts: %s: %s: exit code %s\n%s\n' "$suite" "$line" "$name" "$code" "$said"
          failed=1
        fi
      done <<'NAMES'
localhost reached|no.such|not.found|has.no
file.test reached|no.such|not.found|has.no
dns.test reached|no.such|not.found|has.no
none.test none.test.*(name|address|resolve|lookup|look.up)
NAMES
    done <<'LINES'
none
files dns
files myhostname resolve [!UNAVAIL=return] dns
mymachines resolve [!UNAVAIL=return] files myhostname dns
files resolve [!UNAVAIL=return] dns
resolve [!UNAVAIL=return] files myhostname dns
files mdns4_minimal [NOTFOUND=return] dns
LINES
    rm -rf "$at/store" "$at/dram"
    printf '%s: done\n' "$suite"
  done
  return "$failed"
}

# shellcheck disable=SC2090
export place dram servers
export -f check_all
unshare --mount --net bash -euo pipefail -c 'check_all "$@"' check_all "$@"

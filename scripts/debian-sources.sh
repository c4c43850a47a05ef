# shellcheck shell=bash
# Read by the scripts that unpack Debian's packages; it does nothing by itself.

# debian_sources SUITE: where a package may come from, one `deb …` line per archive of the machine's
# apt configuration (both formats) that is Debian's own, with this machine's
# release replaced by SUITE.
debian_sources() {
  local suite=$1
  if [ -n "${DEMO_MIRROR:-}" ]; then
    printf 'deb %s %s main\n' "$DEMO_MIRROR" "$suite"
    return
  fi
  local codename
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-$suite}")
  {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
      [ -r "$file" ] && awk '
        $1 == "deb" {
          line = $0; sub(/^deb[ \t]+/, "", line)
          signed = ""
          if (match(line, /^\[[^]]*\]/)) {
            options = substr(line, 2, RLENGTH - 2); line = substr(line, RLENGTH + 1)
            n = split(options, o, /[ \t]+/)
            for (i = 1; i <= n; i++) if (o[i] ~ /^signed-by=\//) signed = substr(o[i], 11)
          }
          n = split(line, w, /[ \t]+/); first = (w[1] == "") ? 2 : 1
          for (i = first + 2; i <= n; i++) if (w[i] == "main") print w[first], w[first + 1], signed
        }' "$file"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
      [ -r "$file" ] && awk '
        function flush(   i, j, n, m, u, s) {
          if (types ~ /(^|[ \t])deb([ \t]|$)/ && enabled != "no" && components ~ /(^|[ \t])main([ \t]|$)/) {
            n = split(uris, u, /[ \t]+/); m = split(suites, s, /[ \t]+/)
            for (i = 1; i <= n; i++) for (j = 1; j <= m; j++)
              if (u[i] != "" && s[j] != "") print u[i], s[j], (signed ~ /^\// ? signed : "")
          }
          types = uris = suites = components = signed = enabled = ""
        }
        /^[ \t]*$/ { flush(); next }
        /^#/ { next }
        {
          key = tolower($0); sub(/:.*/, "", key); value = $0; sub(/^[^:]*:[ \t]*/, "", value)
          if (key == "types") types = value
          else if (key == "uris") uris = value
          else if (key == "suites") suites = value
          else if (key == "components") components = value
          else if (key == "signed-by") signed = value
          else if (key == "enabled") enabled = value
        }
        END { flush() }' "$file"
    done
  } | awk -v have="$codename" -v want="$suite" '
    $2 == have || $2 == have "-updates" || $2 == have "-security" {
      sub("^" have, want, $2)
      option = ($3 == "") ? "" : "[signed-by=" $3 "] "
      line = "deb " option $1 " " $2 " main"
      if (!(line in seen)) print line
      seen[line] = 1
    }'
}

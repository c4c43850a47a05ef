#!/usr/bin/env bash
# Queries the projects of tests/release, and compares the answers with the releases that
# Mix and rebar3 create. Needs elixir, rebar3, make and a C compiler; about 30 seconds.
#
#   check.sh [PROJECT…]      all of them without an argument
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
projects=$(cd "$here/../../../tests/release" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export MIX_ENV=prod LC_ALL=C.UTF-8 HOME="$work/home" JOBS_ERTS=no
unset MIX_TARGET MIX_EXS ERL_LIBS RUNTIME_SCHEDULERS GREETING HARBOUR

if [ $# -eq 0 ]; then
  set -- small umbrella nif optional runtime upgrade/v1 upgrade/v2 distillery rebar read fail
fi

quietly() {
  "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; echo "failed: $*" >&2; exit 1; }
}

ask() {
  elixir "$here/ask.exs" --beams "$work/beams" "$@" </dev/null >>"$work/said" 2>&1
}

# The releases as Mix resolves them.
cat >"$work/resolve.exs" <<'EXS'
config = Mix.Project.config()
names = case Keyword.keys(config[:releases] || []), do: ([] -> [nil]; names -> names)

resolved =
  for name <- names do
    release = Mix.Release.from_config!(name, config, [])
    modes = for {app, properties} <- release.applications, do: {app, properties[:mode]}
    paths = for {app, p} <- release.applications, do: {app, Path.expand(to_string(p[:path])), p[:otp_app?]}

    %{
      name: release.name,
      version: release.version,
      path: release.path,
      boot: release.boot_scripts.start,
      boot_clean: release.boot_scripts.start_clean,
      modes: modes,
      paths: paths,
      erts: {release.erts_source && to_string(release.erts_source), to_string(release.erts_version)},
      steps: length(release.steps)
    }
  end

deps = Mix.Project.deps_apps()
File.write!(hd(System.argv()), :erlang.term_to_binary(%{releases: resolved, deps: deps}))
EXS

mix_project() {
  local dir=$1 name
  quietly mix compile
  quietly mix run --no-compile --no-start "$work/resolve.exs" "$dir.mix"
  ask --all . "$dir.etf"
  # Before 1.15, Mix does not assemble what lacks an optional application.
  for name in $(sed -n 's/^ \{8\}\([a-z]*\): \(\[\|fn\).*/\1/p' mix.exs | grep -vx absent || true); do
    quietly mix release --no-compile --overwrite "$name"
  done
  grep -q 'releases:' mix.exs || quietly mix release --no-compile --overwrite
}

for project in "$@"; do
  dir=$work/$project
  mkdir -p "$(dirname "$dir")"
  case $project in
    read | fail) mkdir -p "$dir" ;;
    *) cp -R "$projects/$project" "$dir" ;;
  esac
  cd "$dir"
  case $project in
    rebar)
      quietly rebar3 as prod release --all
      escript "$here/ask.escript" --beams "$work/beams" --all . "$dir.etf"
      ;;
    distillery)
      quietly mix compile
      ask --output-dir @ROOT@ . "$dir.etf"
      ask --profile another:dev . "$dir.another.etf"
      ;;
    read | fail) elixir "$here/check.exs" make "$project" "$here" ;;
    *) mix_project "$dir" ;;
  esac
done

case " $* " in *" read "*)
  cd "$work/read"
  SEEN_IN_MIX=1 SEEN_IN_CONFIG=2 ask . "$work/read.etf"
  cp "$work/read/plain.exs" "$work/read/config/config.exs"
  ask . "$work/plain.etf"
  ;;
esac
case " $* " in *" fail "*)
  for case in "$work"/fail/*/; do
    case=${case%/}
    ask "$case" "$case.etf" unknown_name
  done
  ;;
esac

elixir "$here/check.exs" compare "$work" "$@"

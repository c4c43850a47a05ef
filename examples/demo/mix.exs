defmodule Demo.MixProject do
  use Mix.Project

  def project do
    [
      app: :demo,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: [],
      releases: releases()
    ]
  end

  def application do
    [
      extra_applications: [:logger, :crypto],
      mod: {Demo.Application, []}
    ]
  end

  defp releases do
    [
      demo: [
        include_executables_for: [:unix],
        # `:tar` leaves _build/prod/demo-0.1.0.tar.gz beside the release.
        steps: [:assemble, &give_files_one_time/1, :tar],
        # Without this line, every `mix release` makes up a new secret and writes
        # it into the release. This one is no secret: rel/env.sh.eex turns the
        # distribution off, so nothing ever asks for a cookie. A release that
        # needs the distribution is given RELEASE_COOKIE when it starts.
        cookie: "distribution-is-off"
      ]
    ]
  end

  # The archive holds the times of its files. With one time for all of them, the
  # same sources give the same archive, and so the same image.
  defp give_files_one_time(release) do
    time = String.to_integer(System.get_env("SOURCE_DATE_EPOCH", "0"))

    for path <- Path.wildcard(Path.join(release.path, "**"), match_dot: true) do
      File.touch!(path, time)
    end

    release
  end
end

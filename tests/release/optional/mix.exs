defmodule Optional.MixProject do
  use Mix.Project

  def project do
    [
      app: :optional,
      version: "0.2.0",
      start_permanent: Mix.env() == :prod,
      deps: [
        {:hard, path: "deps_here/hard"},
        {:maybe, path: "deps_here/maybe", optional: true},
        {:part, path: "deps_here/part", runtime: false},
        {:tool, path: "deps_here/tool", runtime: false},
        {:lax, path: "deps_here/lax", runtime: false},
        {:quiet, path: "deps_here/quiet", runtime: false},
        {:tests, path: "deps_here/tests", only: :test}
      ],
      releases: [
        plain: [],
        # Mix puts this together from 1.15 on; before, it wants what is optional to be there.
        absent: [applications: [lax: :permanent]],
        modes: [
          applications: [
            hard: :transient,
            tool: :load,
            quiet: :none,
            runtime_tools: :temporary
          ]
        ]
      ],
      default_release: :plain
    ]
  end

  def application do
    [included_applications: [:part], mod: {Optional.Application, []}]
  end
end

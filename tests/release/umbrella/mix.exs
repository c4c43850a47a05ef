defmodule Umbrella.MixProject do
  use Mix.Project

  def project do
    [
      apps_path: "apps",
      version: "1.2.0",
      start_permanent: Mix.env() == :prod,
      default_release: :shop,
      releases: [
        shop: [applications: [shop_web: :permanent, shop_jobs: :transient]],
        jobs: fn ->
          [
            version: {:from_app, :shop_jobs},
            applications: [shop_jobs: :permanent, runtime_tools: :load],
            include_executables_for: [:unix],
            include_erts: fn -> System.get_env("JOBS_ERTS") != "no" end
          ]
        end
      ]
    ]
  end
end

defmodule ShopJobs.MixProject do
  use Mix.Project

  def project do
    [
      app: :shop_jobs,
      version: "1.3.1",
      build_path: "../../_build",
      config_path: "../../config/config.exs",
      deps_path: "../../deps",
      lockfile: "../../mix.lock",
      start_permanent: Mix.env() == :prod,
      deps: [{:shop_core, in_umbrella: true}]
    ]
  end

  def application, do: [extra_applications: [:crypto], mod: {ShopJobs.Application, []}]
end

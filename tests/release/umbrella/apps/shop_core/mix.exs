defmodule ShopCore.MixProject do
  use Mix.Project

  def project do
    [
      app: :shop_core,
      version: "1.0.0",
      build_path: "../../_build",
      config_path: "../../config/config.exs",
      deps_path: "../../deps",
      lockfile: "../../mix.lock",
      start_permanent: Mix.env() == :prod,
      deps: []
    ]
  end

  def application, do: []
end

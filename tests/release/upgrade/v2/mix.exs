defmodule Upgrade.MixProject do
  use Mix.Project

  def project do
    [app: :upgrade, version: "2.0.0", start_permanent: Mix.env() == :prod]
  end

  def application, do: [extra_applications: [:sasl], mod: {Upgrade.Application, []}]
end

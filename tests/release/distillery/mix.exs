defmodule Still.MixProject do
  use Mix.Project

  def project do
    [app: :still, version: "0.4.2", start_permanent: Mix.env() == :prod]
  end

  def application, do: [extra_applications: [:logger], mod: {Still.Application, []}]
end

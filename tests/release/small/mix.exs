defmodule Small.MixProject do
  use Mix.Project

  def project do
    [
      app: :small,
      version: "0.1.0",
      elixir: "~> 1.11",
      start_permanent: Mix.env() == :prod
    ]
  end

  def application do
    [extra_applications: [:logger], mod: {Small.Application, []}]
  end
end

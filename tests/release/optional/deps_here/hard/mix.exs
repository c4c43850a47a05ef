defmodule Hard.MixProject do
  use Mix.Project

  def project, do: [app: :hard, version: "0.1.0", deps: [{:maybe, path: "../maybe", optional: true}]]

  def application do
    [applications: [:kernel, :stdlib, :elixir, :maybe], optional_applications: [:maybe]]
  end
end

defmodule Maybe.MixProject do
  use Mix.Project

  def project, do: [app: :maybe, version: "0.1.0", deps: []]

  def application, do: []
end

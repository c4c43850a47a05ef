defmodule Tests.MixProject do
  use Mix.Project

  def project, do: [app: :tests, version: "0.1.0", deps: []]

  def application, do: []
end

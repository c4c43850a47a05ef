defmodule Part.MixProject do
  use Mix.Project

  def project, do: [app: :part, version: "0.1.0", deps: []]

  def application, do: [extra_applications: [:inets]]
end

defmodule Quiet.MixProject do
  use Mix.Project

  def project, do: [app: :quiet, version: "0.1.0", deps: []]

  def application, do: []
end

defmodule Lax.MixProject do
  use Mix.Project

  def project, do: [app: :lax, version: "0.1.0"]

  def application do
    [applications: [:kernel, :stdlib, :elixir, :never], optional_applications: [:never]]
  end
end

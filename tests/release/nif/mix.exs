defmodule Mix.Tasks.Compile.NifMake do
  @moduledoc "Runs make; what it makes goes into priv."
  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    include = Path.join([:code.root_dir(), "usr", "include"])

    case System.cmd("make", [], env: [{"ERTS_INCLUDE", include}], stderr_to_stdout: true) do
      {_, 0} -> Mix.Project.build_structure() && {:ok, []}
      {text, _} -> Mix.raise("make failed:\n" <> text)
    end
  end

  @impl true
  def clean, do: File.rm_rf!("priv")
end

defmodule Nif.MixProject do
  use Mix.Project

  def project do
    [
      app: :nif,
      version: "0.3.0",
      compilers: [:nif_make] ++ Mix.compilers(),
      start_permanent: Mix.env() == :prod,
      releases: [
        nif: [strip_beams: [keep: ["Docs"]], include_executables_for: [:unix]]
      ]
    ]
  end

  def application, do: [mod: {Nif.Application, []}]
end

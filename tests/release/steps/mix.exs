defmodule Steps.MixProject do
  use Mix.Project

  def project do
    [
      app: :steps,
      version: "0.1.0",
      start_permanent: Mix.env() == :prod,
      releases: [
        steps: [
          overlays: ["more"],
          steps: [&__MODULE__.before/1, :assemble, &after_it/1, &Steps.More.more/1, :tar, &last/1]
        ]
      ]
    ]
  end

  def application, do: [extra_applications: [:logger], mod: {Steps.Application, []}]

  def before(release) do
    note("before", release)
    Process.put(:kept, "kept")
    tools = Application.spec(:runtime_tools) || (Application.load(:runtime_tools); Application.spec(:runtime_tools))
    path = :code.lib_dir(:runtime_tools)
    tools = [path: path, otp_app?: true] ++ Keyword.drop(tools, [:modules])
    release = put_in(release.applications[:runtime_tools], tools)
    start = release.boot_scripts.start ++ [runtime_tools: :load]
    release = put_in(release.boot_scripts[:start], start)
    release = put_in(release.boot_scripts[:bare], Keyword.take(start, [:kernel, :stdlib, :elixir, :compiler]))
    put_in(release.options[:cookie], "from-a-step")
  end

  defp after_it(release) do
    "kept" = Process.get(:kept)
    note("after", release)
    File.write!(Path.join(release.version_path, "env.sh"), "\nexport FROM_STEP=1\n", [:append])
    File.write!(Path.join(release.path, "bin/extra"), "#!/bin/sh\n")
    File.chmod!(Path.join(release.path, "bin/extra"), 0o755)
    File.mkdir_p!(Path.join(release.path, "share"))
    File.write!(Path.join(release.path, "share/listed"), "1")
    File.mkdir_p!(Path.join(release.path, "rest"))
    File.write!(Path.join(release.path, "rest/other"), "2")
    File.rm!(Path.join(release.version_path, "start.script"))
    %{release | overlays: ["share/listed" | release.overlays]}
  end

  def last(release) do
    note("last", release)
    release
  end

  def note(step, release) do
    release = %{release | overlays: Enum.sort(release.overlays)}
    text = inspect(release, structs: false, limit: :infinity, pretty: true)
    File.write!("steps.log", "#{step} #{text}\n", [:append])
  end
end

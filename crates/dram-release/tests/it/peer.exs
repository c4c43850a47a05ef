# Answers for the tests: what Elixir and Mix make of the same questions.
defmodule Peer do
  def answer("strip", files) do
    for {file, options} <- files do
      options = for {key, value} <- options, do: {key, value}
      case Mix.Release.strip_beam(File.read!(file), options) do
        {:ok, bytes} -> bytes
        {:error, _, _} -> :error
      end
    end
  end

  def answer("sys_config", questions) do
    for {config, providers, options, dir} <- questions do
      release = %Mix.Release{
        version: "0.1.0",
        version_path: dir,
        config_providers: providers,
        options: options,
        applications: %{}
      }

      :ok = Mix.Release.make_sys_config(release, config, {:system, "RELEASE_SYS_CONFIG", ".config"})
      File.read!(Path.join(dir, "sys.config"))
    end
  end

  def answer("merge", questions) do
    for {one, other} <- questions, do: Config.Reader.merge(one, other)
  end

  # Applications lie in DIR/lib; those that the project has are in the code path.
  def answer("resolve", questions) do
    Mix.start()
    Mix.shell(Mix.Shell.Quiet)
    for question <- questions, do: resolve(question)
  end

  defp resolve({dir, applications, names, unchecked}) do
    paths = Path.wildcard(Path.join(dir, "lib/*/ebin"))
    for path <- paths, do: :code.add_pathz(String.to_charlist(path))

    try do
      config = [
        app: nil,
        version: "1.0",
        build_path: dir,
        releases: [demo: [applications: applications, skip_mode_validation_for: unchecked]]
      ]

      release = Mix.Release.from_config!(:demo, config, path: Path.join(dir, "out"), deps_apps: names)
      path = Path.join(dir, "start")

      case Mix.Release.make_boot_script(release, path, release.boot_scripts.start) do
        :ok ->
          clean = Path.join(dir, "clean")
          :ok = Mix.Release.make_boot_script(release, clean, release.boot_scripts.start_clean)
          for file <- [path, clean], extension <- [".rel", ".boot", ".script"], do: File.read!(file <> extension)

        {:error, _} ->
          :refused
      end
    rescue
      _ in Mix.Error -> :refused
    after
      for path <- paths, do: :code.del_path(String.to_charlist(path))
    end
  end
end

[name, from, to] = System.argv()
answer = Peer.answer(name, :erlang.binary_to_term(File.read!(from)))
File.write!(to, :erlang.term_to_binary(answer))

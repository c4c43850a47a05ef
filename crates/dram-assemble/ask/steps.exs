# Calls the functions in Mix's `steps:`, in one emulator that waits while the release is
# assembled. `mix.exs` loads it for the option `--steps DIR`.
#
# DIR has two named pipes. A report is a term in the answer's file and one line in `reports`:
#
#   answer   the answer of the query, made of the release that the steps before `:assemble` left
#   tar      `:tar` is next: what the archive consists of, see files/1
#   done     there is no step left: the same map
#
# After `answer` and `tar` a byte is read from `orders`; its end means that the caller is gone.
defmodule DramAsk.Steps do
  # The steps are those of a `mix release` in which everything before them was done.
  def prepare do
    Mix.Task.run("loadconfig")
    Mix.Task.run("compile", [])
    # Since 1.15 Mix removes applications from the code path that the project does not name.
    if function_exported?(Mix, :ensure_application!, 1),
      do: for(app <- [:sasl, :crypto, :eex], do: apply(Mix, :ensure_application!, [app]))
  end

  # The steps before `:assemble`.
  def before(release) do
    left = call_until_atom(release)
    Process.put(:dram_release, left)
    left
  end

  # Everything after it. Without a release the answer is an error, and nothing follows it.
  def after_answer(dir, write) do
    {:ok, orders} = :file.open(Path.join(dir, "orders"), [:read, :raw, :binary, :device])
    {:ok, reports} = :file.open(Path.join(dir, "reports"), [:append, :raw, :binary, :device])
    report = fn word -> :ok = :file.write(reports, [word, ?\n]) end
    report.("answer")

    with %{steps: [:assemble | steps]} = release <- Process.get(:dram_release) do
      wait(orders)
      finish(assembled(%{release | steps: steps}), write, report, orders)
    end
  end

  defp finish(release, write, report, orders) do
    case call_until_atom(release) do
      %{steps: [:tar | steps]} = release ->
        release = %{release | steps: steps}
        write.({:ok, files(release)})
        report.("tar")
        wait(orders)
        finish(release, write, report, orders)

      release ->
        write.({:ok, files(release)})
        report.("done")
    end
  catch
    kind, reason ->
      write.({:error, DramAsk.Mix.step_error(kind, reason, __STACKTRACE__)})
      report.("done")
  end

  defp wait(orders) do
    # `read_line` would wait for a whole block.
    case :file.read(orders, 1) do
      {:ok, _} -> :ok
      _ -> System.halt(1)
    end
  end

  defp call_until_atom(%{steps: [step | steps]} = release) when is_function(step) do
    case step.(%{release | steps: steps}) do
      %Mix.Release{} = release ->
        call_until_atom(release)

      other ->
        Mix.raise("Expected step #{inspect(step)} to return a Mix.Release, got: #{inspect(other)}")
    end
  end

  defp call_until_atom(release), do: release

  # What Mix's own `:assemble` changes in the struct.
  defp assembled(release) do
    release =
      if Version.compare(System.version(), "1.15.0") == :lt,
        do: release,
        else: Process.get(:dram_with_reader).(release)

    default = Mix.Release.rel_templates_path(release, "overlays")
    default = if File.dir?(default), do: [default], else: []

    copied =
      for dir <- default ++ List.wrap(release.options[:overlays]),
          path <- Path.wildcard(Path.join(dir, "**"), match_dot: true),
          do: Path.relative_to(path, dir)

    %{release | overlays: Enum.uniq(copied) ++ release.overlays}
  end

  # path      where the release is
  # name, version
  # kept      relative paths, of files and directories, that Mix's `:tar` packs
  defp files(release) do
    libs = for {app, properties} <- release.applications, do: "lib/#{app}-#{properties[:vsn]}"

    %{
      path: Path.expand(release.path),
      name: release.name,
      version: release.version,
      kept:
        ["bin", "releases/#{release.version}", "erts-#{release.erts_version}"] ++
          libs ++ Enum.map(release.overlays, &to_string/1)
    }
  end
end

# The entry point of the Elixir queries: compiles the query scripts, or loads them from the
# cache, and runs the query.
#
#   elixir ask.exs [--beams DIR] PROJECT_DIR ANSWER_FILE [OPTION…] [RELEASE]
#
# `mix.exs` documents the options and the answer. With `--beams`, the compiled scripts are
# cached in DIR, which must be as trusted as the scripts. The cache key is the digest of the
# script's text and of the versions of Erlang and Elixir.
{beams, args} =
  case System.argv() do
    ["--beams", dir | args] -> {Path.expand(dir), args}
    args -> {nil, args}
  end

compile = fn file, text ->
  case Path.extname(file) do
    ".erl" ->
      {:ok, module, beam} = :compile.file(String.to_charlist(file), [:binary, :report_errors])
      {:module, _} = :code.load_binary(module, String.to_charlist(file), beam)
      [{module, beam}]

    ".exs" ->
      before = Code.compiler_options()
      Code.compiler_options(docs: false, debug_info: false, ignore_module_conflict: true)
      compiled = Code.compile_string(text, file)
      Code.compiler_options(Map.take(before, [:docs, :debug_info, :ignore_module_conflict]))
      compiled
  end
end

load = fn name ->
  file = Path.join(__DIR__, name)
  text = File.read!(file)

  kept =
    if beams do
      key = [text, System.version(), :erlang.system_info(:otp_release), :erlang.system_info(:version)]
      Path.join(beams, "#{name}-#{Base.encode16(:erlang.md5(key), case: :lower)}")
    end

  with true <- is_binary(kept),
       {:ok, bytes} <- File.read(kept) do
    for {module, beam} <- :erlang.binary_to_term(bytes),
        do: {:module, _} = :code.load_binary(module, String.to_charlist(file), beam)
  else
    _ ->
      compiled = compile.(file, text)

      if kept do
        half = "#{kept}.#{System.pid()}"
        File.mkdir_p!(beams)
        File.write!(half, :erlang.term_to_binary(compiled))
        File.rename!(half, kept)
      end
  end

  :ok
end

load.("dram_inputs.erl")
load.("mix.exs")
# Called by `apply`, because the module does not exist when this file is compiled.
apply(:"Elixir.DramAsk.Mix", :main, [args, load, [__DIR__ | List.wrap(beams)]])

defmodule Nif do
  @moduledoc "The library is loaded when the module is first used, not at start."
  @on_load :load

  def load, do: :erlang.load_nif(:filename.join(:code.priv_dir(:nif), 'nif'), 0)

  @doc "The cube root of a float."
  def cbrt(_x), do: :erlang.nif_error(:not_loaded)

  @doc "What the program in priv says to a line."
  def echo(line) do
    path = Path.join(:code.priv_dir(:nif), "echo")
    port = Port.open({:spawn_executable, path}, [:binary, {:line, 256}])
    Port.command(port, line <> "\n")

    receive do
      {^port, {:data, {:eol, answer}}} ->
        Port.close(port)
        answer
    after
      5000 -> exit(:no_echo)
    end
  end
end

defmodule Nif.Application do
  @moduledoc "Says READY with a root and an echo."
  use Application

  def start(_type, _args) do
    IO.puts("READY #{Nif.cbrt(8.0)} #{Nif.echo("hello")}")
    Supervisor.start_link([], strategy: :one_for_one)
  end
end

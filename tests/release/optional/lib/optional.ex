defmodule Optional.Application do
  @moduledoc "Says READY with the applications that run."
  use Application

  def start(_type, _args) do
    running = for {app, _, _} <- Application.started_applications(), do: app
    IO.puts("READY " <> Enum.map_join(Enum.sort(running), " ", &to_string/1))
    Supervisor.start_link([], strategy: :one_for_one)
  end
end

defmodule Upgrade.Application do
  @moduledoc "Starts the server that is to survive the change."
  use Application

  def start(_type, _args) do
    IO.puts("READY 2")
    Supervisor.start_link([Upgrade.Server], strategy: :one_for_one)
  end
end

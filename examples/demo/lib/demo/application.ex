defmodule Demo.Application do
  @moduledoc """
  The supervision tree.

      Demo.Supervisor (rest_for_one)
      ├── Demo.Connections   a task for each open connection
      ├── Demo.Listener      owns the listening socket
      └── Demo.Acceptors     a supervisor of processes that wait in accept

  `rest_for_one`: when the listener dies its socket is gone, so the acceptors
  start again with the new one. Open connections live on.
  """

  use Application

  @impl true
  def start(_type, _args) do
    # Fails here and now if libcrypto is missing, not at the first request.
    _ = Demo.fingerprint("")

    children = [
      {Task.Supervisor, name: Demo.Connections},
      {Demo.Listener, port: Application.fetch_env!(:demo, :port)},
      {Demo.Acceptors, count: Application.fetch_env!(:demo, :acceptors)}
    ]

    with {:ok, pid} <-
           Supervisor.start_link(children, strategy: :rest_for_one, name: Demo.Supervisor) do
      IO.puts("READY http://0.0.0.0:#{Demo.Listener.port()}")
      {:ok, pid}
    end
  end
end

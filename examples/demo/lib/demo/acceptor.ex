defmodule Demo.Acceptor do
  @moduledoc "Waits for a connection, hands it to a task of its own, waits again."

  use Task, restart: :permanent

  require Logger

  def start_link(socket), do: Task.start_link(__MODULE__, :accept, [socket])

  @doc false
  def accept(socket) do
    case :gen_tcp.accept(socket) do
      {:ok, connection} ->
        serve(connection)
        accept(socket)

      {:error, reason} when reason in [:emfile, :enfile, :econnaborted, :timeout] ->
        Logger.warning("accept: #{:inet.format_error(reason)}")
        Process.sleep(100)
        accept(socket)

      {:error, reason} ->
        exit({:accept, reason})
    end
  end

  defp serve(connection) do
    {:ok, task} =
      Task.Supervisor.start_child(Demo.Connections, fn ->
        # The socket must be this task's before it may be read here.
        receive do
          :go -> Demo.Http.serve(connection)
        after
          5_000 -> :gen_tcp.close(connection)
        end
      end)

    case :gen_tcp.controlling_process(connection, task) do
      :ok -> send(task, :go)
      {:error, _closed} -> :gen_tcp.close(connection)
    end
  end
end

defmodule Steps.Application do
  @moduledoc "Starts the one server."
  use Application

  def start(_type, _args) do
    Supervisor.start_link([Steps.Server], strategy: :one_for_one, name: Steps.Supervisor)
  end

  def stop(_state), do: IO.puts("STOPPED")
end

defmodule Steps.Server do
  @moduledoc "Says READY once it serves, and counts."
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)
  def bump, do: GenServer.call(__MODULE__, :bump)

  @impl true
  def init(count), do: {:ok, count, {:continue, :ready}}

  @impl true
  def handle_continue(:ready, count) do
    IO.puts("READY #{Application.fetch_env!(:steps, :greeting)}")
    {:noreply, count}
  end

  @impl true
  def handle_call(:bump, _from, count), do: {:reply, count + 1, count + 1}
end
defmodule Steps.More do
  def more(release) do
    Steps.MixProject.note("more", release)
    release
  end
end

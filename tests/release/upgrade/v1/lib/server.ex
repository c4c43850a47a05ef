defmodule Upgrade.Server do
  @moduledoc "Counts. Its state is the count."
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)
  def bump, do: GenServer.call(__MODULE__, :bump)
  def state, do: :sys.get_state(__MODULE__)

  @impl true
  def init(count), do: {:ok, count}

  @impl true
  def handle_call(:bump, _from, count), do: {:reply, count + 1, count + 1}

  @impl true
  def code_change({:down, _}, %{count: count}, _extra), do: {:ok, count}
  def code_change(_version, state, _extra), do: {:ok, state}
end

defmodule Upgrade.Server do
  @moduledoc "Counts, by steps. Its state is a map; version 1 had the bare count."
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, %{count: 0, step: 10}, name: __MODULE__)
  def bump, do: GenServer.call(__MODULE__, :bump)
  def state, do: :sys.get_state(__MODULE__)

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_call(:bump, _from, %{count: count, step: step} = state) do
    {:reply, count + step, %{state | count: count + step}}
  end

  @impl true
  def code_change({:down, _}, %{count: count}, _extra), do: {:ok, count}
  def code_change(_version, count, _extra) when is_integer(count), do: {:ok, %{count: count, step: 10}}
  def code_change(_version, state, _extra), do: {:ok, state}
end

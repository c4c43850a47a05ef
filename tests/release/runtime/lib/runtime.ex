defmodule Runtime.Provider do
  @moduledoc "Adds to the configuration when the release starts; its file need not be there."
  @behaviour Config.Provider

  @impl true
  def init(%{file: file}), do: {:checked, file}

  @impl true
  def load(config, {:checked, file}) do
    Config.Reader.merge(config, runtime: [provided: file])
  end
end

defmodule Runtime.Application do
  @moduledoc "Says READY with what came from all places."
  use Application

  @colour Application.compile_env!(:runtime, :colour)
  @depth_of Application.compile_env(:runtime, [:nested, :names])
  @nothing Application.compile_env(:runtime, :nothing, 0)

  def start(_type, _args) do
    env = Application.get_all_env(:runtime)

    IO.puts(
      "READY #{@colour} #{inspect(@depth_of)} #{@nothing} #{env[:greeting]} " <>
        "#{env[:nested][:depth]} #{env[:provided]} #{System.get_env("FROM_ENV_SH")}"
    )

    Supervisor.start_link([], strategy: :one_for_one)
  end
end

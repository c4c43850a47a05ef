defmodule Demo.Acceptors do
  @moduledoc "A supervisor of `count` acceptors."

  use Supervisor

  def start_link(options) do
    Supervisor.start_link(__MODULE__, Keyword.fetch!(options, :count), name: __MODULE__)
  end

  @impl true
  def init(count) do
    socket = Demo.Listener.socket()

    children =
      for number <- 1..count do
        Supervisor.child_spec({Demo.Acceptor, socket}, id: {Demo.Acceptor, number})
      end

    Supervisor.init(children, strategy: :one_for_one)
  end
end

defmodule Demo.Listener do
  @moduledoc "Opens the listening socket and owns it."

  use GenServer

  @options [
    :binary,
    packet: :http_bin,
    active: false,
    reuseaddr: true,
    backlog: 128,
    send_timeout: 5_000,
    send_timeout_close: true
  ]

  def start_link(options) do
    GenServer.start_link(__MODULE__, Keyword.fetch!(options, :port), name: __MODULE__)
  end

  @doc "The listening socket, to accept from."
  def socket, do: GenServer.call(__MODULE__, :socket)

  @doc "The port the server really listens on."
  def port do
    {:ok, port} = :inet.port(socket())
    port
  end

  @impl true
  def init(port) do
    case :gen_tcp.listen(port, @options) do
      {:ok, socket} -> {:ok, socket}
      {:error, reason} -> {:stop, "cannot listen on port #{port}: #{:inet.format_error(reason)}"}
    end
  end

  @impl true
  def handle_call(:socket, _from, socket), do: {:reply, socket, socket}
end

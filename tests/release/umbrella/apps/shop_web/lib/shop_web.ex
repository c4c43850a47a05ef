defmodule ShopWeb.Application do
  @moduledoc "Says READY with a price."
  use Application

  def start(_type, _args) do
    IO.puts("READY web " <> ShopCore.Label.label(ShopCore.price(199)))
    Supervisor.start_link([], strategy: :one_for_one)
  end
end

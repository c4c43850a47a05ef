defmodule ShopJobs.Application do
  @moduledoc "Says READY with a digest, so that crypto is needed."
  use Application

  def start(_type, _args) do
    digest = :crypto.hash(:sha256, inspect(ShopCore.price(5))) |> Base.encode16()
    IO.puts("READY jobs " <> binary_part(digest, 0, 8))
    Supervisor.start_link([], strategy: :one_for_one)
  end
end

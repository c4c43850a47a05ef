defmodule ShopCore do
  @moduledoc "Prices, for both of the others."

  def price(cents), do: {cents, Application.fetch_env!(:shop_core, :currency)}
end

defprotocol ShopCore.Label do
  @doc "What stands on the shelf."
  def label(item)
end

defimpl ShopCore.Label, for: Tuple do
  def label({cents, currency}), do: "#{cents} #{currency}"
end

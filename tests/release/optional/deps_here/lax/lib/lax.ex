defmodule Lax do
  @moduledoc false
  def name, do: :lax
end

defmodule Hard do
  @moduledoc false
  def name, do: :hard
end

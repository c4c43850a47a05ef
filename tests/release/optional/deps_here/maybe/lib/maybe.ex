defmodule Maybe do
  @moduledoc false
  def name, do: :maybe
end

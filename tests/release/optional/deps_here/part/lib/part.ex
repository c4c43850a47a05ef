defmodule Part do
  @moduledoc false
  def name, do: :part
end

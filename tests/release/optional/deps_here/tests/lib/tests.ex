defmodule Tests do
  @moduledoc false
  def name, do: :tests
end

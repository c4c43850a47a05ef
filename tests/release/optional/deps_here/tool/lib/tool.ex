defmodule Tool do
  @moduledoc false
  def name, do: :tool
end

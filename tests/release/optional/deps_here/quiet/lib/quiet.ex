defmodule Quiet do
  @moduledoc false
  def name, do: :quiet
end

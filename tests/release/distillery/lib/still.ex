defmodule Still.Application do
  @moduledoc "Says READY with a setting of config.exs and one of sys.config."
  use Application

  def start(_type, _args) do
    env = Application.get_all_env(:still)
    IO.puts("READY #{env[:proof]} #{env[:from]} #{System.get_env("FROM_HOOK")}")
    Supervisor.start_link([], strategy: :one_for_one)
  end
end

import Config

for file <- Path.wildcard(Path.join(__DIR__, "apps/*.exs")) |> Enum.sort(), do: import_config(file)

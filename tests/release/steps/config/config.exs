import Config

config :steps,
  greeting: "grüß dich",
  words: ["a", 'b', :c, 1.5, {nil, true}],
  table: %{"x" => 1, y: [2]}

config :logger, level: :warning

import_config "#{config_env()}.exs"

import Config

config :runtime,
  colour: :red,
  nested: [depth: 2, names: ["a", "b"]],
  compiled: System.get_env("RUNTIME_COMPILED", "plain")

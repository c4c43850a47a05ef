import Config

config :runtime, greeting: System.get_env("GREETING", "hello"), nested: [depth: 3]

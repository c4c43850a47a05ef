import Config

config :runtime, greeting: "other"

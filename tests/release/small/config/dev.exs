import Config

config :small, env: config_env()

import Config

config :steps, env: config_env()

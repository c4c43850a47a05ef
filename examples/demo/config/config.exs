import Config

config :demo,
  port: 4000,
  acceptors: 4

config :logger, :console, format: "$time [$level] $message\n"

if config_env() == :test do
  # Port 0: the operating system chooses a free one.
  config :demo, port: 0
  config :logger, level: :warning
end

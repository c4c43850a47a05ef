import Config

# Read each time the release starts, not when it is built.
if port = System.get_env("PORT") do
  config :demo, port: String.to_integer(port)
end

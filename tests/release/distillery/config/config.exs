import Config

config :still, proof: 40, from: "config.exs", url: "${STILL_URL}"

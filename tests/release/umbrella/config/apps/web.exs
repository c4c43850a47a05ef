import Config

config :shop_web, port: 4000

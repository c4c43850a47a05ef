import Config

config :shop_core, currency: :eur, rates: [usd: 1.08]

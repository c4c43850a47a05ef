defmodule Still.Plugin do
  use Distillery.Releases.Plugin

  def before_assembly(release, _opts) do
    info("nobody hears this")
    release
  end
end

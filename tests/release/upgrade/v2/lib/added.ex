defmodule Upgrade.Added do
  @moduledoc "New in version 2."
  def there?, do: true
end

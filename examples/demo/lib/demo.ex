defmodule Demo do
  @moduledoc """
  A small web server made of OTP alone: what a release needs, and no package.
  """

  @version Mix.Project.config()[:version]

  @doc "The version this code was built as."
  def version, do: @version

  @doc "Seconds since the virtual machine started."
  def uptime do
    {milliseconds, _since_last_call} = :erlang.statistics(:wall_clock)
    div(milliseconds, 1000)
  end

  @doc """
  The SHA-256 of `text`, in hexadecimal.

  It is computed by `:crypto`, whose native library needs libcrypto at run time.

      iex> Demo.fingerprint("")
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  """
  def fingerprint(text) do
    :crypto.hash(:sha256, text) |> Base.encode16(case: :lower)
  end
end

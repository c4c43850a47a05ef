defmodule Demo.Router do
  @moduledoc "Which page answers which path."

  @greeting "Hello from a BEAM in a small image"

  @doc "The response to `method` on `path`: `{status, content type, body}`."
  def route(method, path) when method in [:GET, :HEAD] do
    case path do
      "/" -> {200, "text/html", page()}
      "/health" -> {200, "text/plain", "ok\n"}
      _ -> {404, "text/plain", "not found\n"}
    end
  end

  def route(_method, _path), do: {405, "text/plain", "method not allowed\n"}

  defp page do
    """
    <!doctype html>
    <html lang="en">
      <head><meta charset="utf-8"><title>demo #{Demo.version()}</title></head>
      <body>
        <h1>#{@greeting}</h1>
        <dl>
          <dt>version</dt><dd>#{Demo.version()}</dd>
          <dt>runs on</dt><dd>Erlang/OTP #{System.otp_release()}, Elixir #{System.version()}</dd>
          <dt>uptime</dt><dd>#{Demo.uptime()} s</dd>
          <dt>SHA-256 of the greeting</dt><dd><code>#{Demo.fingerprint(@greeting)}</code></dd>
        </dl>
      </body>
    </html>
    """
  end
end

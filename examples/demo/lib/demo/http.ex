defmodule Demo.Http do
  @moduledoc """
  As much of HTTP/1.1 as the demo needs: one request, one response, close.

  The Erlang runtime reads the request line and the headers (`packet: :http_bin`).
  """

  @patience 5_000
  @most_headers 100

  @reasons %{200 => "OK", 400 => "Bad Request", 404 => "Not Found", 405 => "Method Not Allowed"}

  @doc "Reads one request from `connection`, answers it, and closes."
  def serve(connection) do
    case read(connection) do
      {:ok, method, path} ->
        :gen_tcp.send(connection, encode(Demo.Router.route(method, path), method))

      :bad ->
        :gen_tcp.send(connection, encode({400, "text/plain", "bad request\n"}, :GET))

      :gone ->
        :ok
    end

    :gen_tcp.close(connection)
  end

  defp read(connection) do
    case :gen_tcp.recv(connection, 0, @patience) do
      {:ok, {:http_request, method, target, _version}} ->
        with :ok <- skip_headers(connection, @most_headers) do
          path(method, target)
        end

      {:ok, _} ->
        :bad

      {:error, _} ->
        :gone
    end
  end

  defp skip_headers(_connection, 0), do: :bad

  defp skip_headers(connection, left) do
    case :gen_tcp.recv(connection, 0, @patience) do
      {:ok, :http_eoh} -> :ok
      {:ok, {:http_header, _, _, _, _}} -> skip_headers(connection, left - 1)
      {:ok, _} -> :bad
      {:error, _} -> :gone
    end
  end

  defp path(method, {:abs_path, target}), do: {:ok, method, without_query(target)}

  defp path(method, {:absoluteURI, _scheme, _host, _port, target}),
    do: {:ok, method, without_query(target)}

  defp path(_method, _target), do: :bad

  defp without_query(target), do: target |> String.split("?", parts: 2) |> hd()

  @doc "The bytes of a response; a HEAD request gets no body."
  def encode({status, type, body}, method) do
    [
      "HTTP/1.1 #{status} #{Map.fetch!(@reasons, status)}\r\n",
      "content-type: #{type}; charset=utf-8\r\n",
      "content-length: #{byte_size(body)}\r\n",
      "connection: close\r\n\r\n",
      if(method == :HEAD, do: "", else: body)
    ]
  end
end

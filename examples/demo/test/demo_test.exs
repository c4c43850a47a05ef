defmodule DemoTest do
  use ExUnit.Case
  doctest Demo

  defp request(text) do
    options = [:binary, active: false]
    {:ok, socket} = :gen_tcp.connect('localhost', Demo.Listener.port(), options)
    :ok = :gen_tcp.send(socket, text)
    read(socket, "")
  end

  defp read(socket, so_far) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, more} -> read(socket, so_far <> more)
      {:error, :closed} -> so_far
    end
  end

  test "the page shows the version and a hash made by :crypto" do
    response = request("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert response =~ "HTTP/1.1 200 OK\r\n"
    assert response =~ "<dd>0.1.0</dd>"
    assert response =~ ~r"<code>[0-9a-f]{64}</code>"
  end

  test "health" do
    response = request("GET /health?quick HTTP/1.1\r\n\r\n")
    assert response =~ "200 OK"
    assert String.ends_with?(response, "\r\n\r\nok\n")
  end

  test "HEAD has the length of the body, and no body" do
    response = request("HEAD /health HTTP/1.1\r\n\r\n")
    assert response =~ "content-length: 3\r\n"
    assert String.ends_with?(response, "\r\n\r\n")
  end

  test "what is not there, what is not allowed, what is not HTTP" do
    assert request("GET /nothing HTTP/1.1\r\n\r\n") =~ "404 Not Found"
    assert request("POST / HTTP/1.1\r\n\r\n") =~ "405 Method Not Allowed"
    assert request("what\r\n\r\n") =~ "400 Bad Request"
  end

  test "an acceptor that dies is replaced" do
    for {_, acceptor, _, _} <- Supervisor.which_children(Demo.Acceptors) do
      Process.exit(acceptor, :kill)
      Process.sleep(10)
      assert request("GET /health HTTP/1.1\r\n\r\n") =~ "200 OK"
    end
  end
end

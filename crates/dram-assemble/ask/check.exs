# The comparisons of check.sh. `make` writes projects for the tests of tracing and of
# errors; `compare` checks the answers.
defmodule Check do
  def answer(file), do: File.read!(file) |> :erlang.binary_to_term()

  def ok(file) do
    case answer(file) do
      {:ok, map} -> map
      {:error, error} -> stop("#{file}: #{inspect(error, pretty: true)}")
    end
  end

  def same(what, found, wanted) do
    Process.put(:compared, Process.get(:compared, 0) + 1)

    unless found === wanted do
      Process.put(:wrong, true)

      IO.puts(
        :stderr,
        "#{what}:\n  found  #{inspect(found, limit: :infinity)}\n  wanted #{inspect(wanted, limit: :infinity)}"
      )
    end
  end

  def holds(what, true), do: same(what, true, true)
  def holds(what, other), do: same(what, other, true)

  def stop(message) do
    IO.puts(:stderr, message)
    System.halt(1)
  end

  # ---- a Mix project, against Mix ----

  def compare("distillery", work) do
    map = ok(Path.join(work, "distillery.etf"))
    rel = map.distillery
    dir = Path.join(work, "distillery")
    same("kind", map.kind, :distillery)
    same("name", {rel.name, rel.version, rel.environment}, {:still, "0.4.2", :prod})
    same("applications", rel.applications, [:runtime_tools, {:crypto, :load}, :still])
    same("cookie: the environment wins", rel.cookie, "prod_cookie")
    same("plugins: both", rel.plugins, [{Still.Plugin, []}, {Still.Plugin, [loud: true]}])
    same("hooks", rel.hooks, pre_start_hooks: Path.join(dir, "rel/hooks/pre_start"))
    same("commands", rel.commands, greet: Path.join(dir, "rel/commands/greet.sh"))
    same("vm.args", rel.vm_args.text, "-name still@127.0.0.1\n-setcookie prod_cookie\n+K true\n")
    same("sys.config", rel.sys_config.term[:still][:from], 'sys.config of amber')
    same("strip", rel.settings.strip_debug_info, true)

    [mkdir, copy, link, template] = rel.overlays
    same("mkdir", mkdir, {:mkdir, "var/still"})
    same("copy", copy, {:copy, Path.join(dir, "rel/notes.txt"), "share/notes-0.4.2.txt"})
    same("link", link, {:link, "rel/notes.txt", "share/linked.txt"})
    {:template, _, to, text} = template
    same("template's name", to, "etc/still.service")
    holds("template's text", String.contains?(text, "ExecStart=@ROOT@/bin/still foreground"))
    holds("the plugin's file is an input", Path.join(dir, "rel/plugins/still_plugin.exs") in map.inputs.files)
    holds("the version's file is an input", Enum.any?(map.inputs.files, &String.ends_with?(&1, "still.app")))

    another = ok(Path.join(work, "distillery.another.etf")).distillery
    same("profile", {another.name, another.environment}, {:another, :dev})
    same("dev mode", another.settings.dev_mode, true)
    same("dev cookie", another.cookie, "dev_cookie")
  end

  def compare("rebar", work) do
    map = ok(Path.join(work, "rebar.etf"))
    rel = Path.join(work, "rebar/_build/prod/rel")

    for release <- map.releases do
      root = Path.join(rel, to_string(release.name))
      what = "rebar #{release.name}"
      same("#{what} path", release.path, root)
      {:ok, [{:release, {_, vsn}, _, apps}]} =
        :file.consult(Path.join([root, "releases", release.version, "#{release.name}.rel"]))

      same("#{what} version", to_string(vsn), release.version)

      for %{app: app, type: type} <- release.goals do
        found = List.keyfind(apps, app, 0)
        same("#{what} goal #{app}", if(tuple_size(found) > 2, do: elem(found, 2)), type)
      end

      for {:template, _, to, text} <- release.overlays do
        real = text |> String.replace(release.path, root)
        same("#{what} #{to}", real, File.read!(Path.join(root, to)))
      end

      same("#{what} erts", File.exists?(Path.join(root, "erts-#{map.otp.erts}")), release.include_erts)
    end

    names = for r <- map.releases, do: {r.name, length(r.goals), r.mode}
    same("releases", names, [{:ferry, 4, :prod}, {:ferry_small, 1, :minimal}, {:ferry_more, 2, :prod}])
  end

  def compare("read", work) do
    inputs = ok(Path.join(work, "read.etf")).inputs
    dir = Path.join(work, "read")

    for file <- ~w(mix.exs VERSION evaluated.exs config/config.exs config/other.exs config/listed/a.exs
                   in_task.txt streamed.txt consulted.term rel/env.sh.eex from_template.txt from_fun.txt) do
      holds("#{file} was read", Path.join(dir, file) in inputs.files)
    end

    for name <- ~w(SEEN_IN_MIX SEEN_IN_CONFIG SEEN_IN_TEMPLATE SEEN_IN_TASK MIX_ENV),
        do: holds("#{name} was read", Map.has_key?(inputs.env, name))

    for {name, value} <- System.get_env(), digest = inputs.env[name], name != "MIX_ENV", do: same(name, digest, :crypto.hash(:sha256, value))
    same("its value", inputs.env["SEEN_IN_CONFIG"], :crypto.hash(:sha256, "2"))
    same("nothing there", inputs.env["SEEN_IN_TEMPLATE"], :absent)
    holds("its own variable is none", not Map.has_key?(inputs.env, "SET_HERE"))
    same("listed", Path.join(dir, "config/listed") in inputs.dirs, true)
    holds("absence", {Path.join(dir, "not_there.txt"), :absent} in inputs.stats)
    holds("a kind", {Path.join(dir, "a_dir"), :directory} in inputs.stats)
    holds("a command", {:command, "git rev-parse HEAD"} in inputs.uncacheable)
    holds("a shell's command", {:command, "echo shell"} in inputs.uncacheable)
    holds("a socket", Enum.any?(inputs.uncacheable, &match?({:socket, _}, &1)))
    same("moments", inputs.volatile, [:clock, :crypto, :random])
    holds("written", Path.join(dir, "written.txt") in inputs.written)
    holds("no written file is an input", Path.join(dir, "written.txt") not in inputs.files)
    same("the whole environment", inputs.whole_env, true)

    plain = ok(Path.join(work, "plain.etf")).inputs
    same("a plain config is cacheable", {plain.whole_env, plain.written}, {false, []})
    holds("no socket", not Enum.any?(plain.uncacheable, &match?({:socket, _}, &1)))
    same("no clock", plain.volatile, [])
  end

  def compare("fail", work) do
    dir = Path.join(work, "fail")

    for {name, kind, file, line, part} <- [
          {"syntax", :compile, "mix.exs", 3, "unexpected token"},
          {"unknown_module", :raise, "mix.exs", 4, "Nothing.There"},
          {"mix_raise", :mix, "mix.exs", nil, "plainly refused"},
          {"config", :raise, "config/config.exs", nil, "no such setting"},
          {"config_throw", :throw, "config/config.exs", nil, "ball"},
          {"template", :raise, "rel/vm.args.eex", nil, "in the template"},
          {"function", :sys_config, nil, nil, "invalid configuration"},
          {"unknown", :unknown_release, nil, nil, "unknown_name"},
          {"nothing", :no_project, "mix.exs", nil, "no mix.exs"},
          {"umbrella", :umbrella, nil, nil, "must list"}
        ] do
      case answer(Path.join(dir, "#{name}.etf")) do
        {:error, error} ->
          same("#{name} kind", error.kind, kind)
          same("#{name} file", error.file && Path.relative_to(error.file, Path.join(dir, name)), file)
          if line, do: same("#{name} line", error.line, line)
          holds("#{name}: #{error.message}", String.contains?(error.message, part))

        {:ok, _} ->
          same(name, :ok, :error)
      end
    end
  end

  def compare(project, work) do
    map = ok(Path.join(work, "#{project}.etf"))
    mix = answer(Path.join(work, "#{project}.mix"))
    same("#{project} names", Enum.map(map.releases, & &1.name), Enum.map(mix.releases, & &1.name))
    # Mix knows of dependencies that other environments use only by their mix.exs.
    missing = mix.deps -- Enum.map(map.deps, & &1.app)
    same("#{project} deps", missing, [])

    for {release, real} <- Enum.zip(map.releases, mix.releases) do
      what = "#{project} #{release.name}"
      for key <- [:version, :path, :boot, :boot_clean], do: same("#{what} #{key}", release[key], real[key])
      same("#{what} modes", for(a <- release.resolved, do: {a.app, a.mode}), real.modes)
      same("#{what} paths", for(a <- release.resolved, do: {a.app, a.path, a.otp}), real.paths)
      same("#{what} erts", {release.erts.source, release.erts.version}, real.erts)
      same("#{what} steps", length(release.steps), real.steps)
      if release.name != :absent, do: assembled(what, release)
    end
  end

  # Compares with the files that `mix release` wrote, byte for byte.
  defp assembled(what, release) do
    dir = Path.join([release.path, "releases", release.version])
    same("#{what} sys.config", release.sys_config, File.read!(Path.join(dir, "sys.config")))

    for {name, %{text: text}} <- release.templates do
      file = Path.join(dir, name)
      if File.exists?(file), do: same("#{what} #{name}", text, File.read!(file))
    end

    cookie = File.read!(Path.join(release.path, "releases/COOKIE"))
    if release.cookie, do: same("#{what} cookie", release.cookie, cookie)

    {:ok, [{:release, _, _, apps}]} = :file.consult(Path.join(dir, "#{release.name}.rel"))
    rel = for app <- apps, do: {elem(app, 0), elem(app, 2)}
    same("#{what} .rel", rel, release.boot)

    for overlay <- release.overlays,
        file <- Path.wildcard(Path.join(overlay, "**")),
        do: holds("#{what} #{file}", File.exists?(Path.join(release.path, Path.relative_to(file, overlay))))
  end

  # ---- projects made here ----

  # An application that has no modules.
  defp compiled(dir, name) do
    ebin = Path.join(dir, "_build/prod/lib/#{name}/ebin")
    File.mkdir_p!(ebin)

    File.write!(
      Path.join(ebin, "#{name}.app"),
      "{application, #{name}, [{vsn, \"1.0.0\"}, {applications, [kernel, stdlib, elixir]}, {modules, []}]}.\n"
    )
  end

  def make("read", _) do
    for dir <- ~w(config/listed rel a_dir), do: File.mkdir_p!(dir)
    compiled(".", "read")
    File.write!("VERSION", "0.0.1")
    for file <- ~w(in_task.txt streamed.txt from_template.txt from_fun.txt), do: File.write!(file, "x\n")
    File.write!("consulted.term", "{a, 1}.\n")
    File.write!("evaluated.exs", ~S{[app: :read, version: File.read!("VERSION")]})

    File.write!("mix.exs", ~S"""
    defmodule Read.MixProject do
      use Mix.Project

      def project do
        {values, _} = Code.eval_file("evaluated.exs")
        System.get_env("SEEN_IN_MIX")
        System.cmd("git", ["rev-parse", "HEAD"], stderr_to_stdout: true)
        values ++ [releases: [read: fn -> File.read!("from_fun.txt") && [] end]]
      end

      def application, do: []
    end
    """)

    plain = ~S"""
    import Config
    import_config "other.exs"
    config :read, at: "plain"
    """

    File.write!("plain.exs", plain)
    File.write!("config/other.exs", "import Config\n")
    File.write!("config/listed/a.exs", "import Config\nconfig :read, a: 1\n")

    File.write!("config/config.exs", ~S"""
    import Config
    IO.puts("this is for the terminal")
    import_config "other.exs"
    for file <- Path.wildcard(Path.join(__DIR__, "listed/*.exs")), do: import_config(file)
    config :read, at: System.fetch_env("SEEN_IN_CONFIG"), now: inspect(DateTime.utc_now())
    System.put_env("SET_HERE", "1")
    System.get_env("SET_HERE")

    Task.async(fn ->
      System.get_env("SEEN_IN_TASK")
      File.read!("in_task.txt")
    end)
    |> Task.await()

    File.stream!("streamed.txt") |> Enum.to_list()
    :file.consult('consulted.term')
    File.exists?("not_there.txt")
    File.dir?("a_dir")
    File.write!("written.txt", "y")
    File.read!("written.txt")
    :os.cmd('echo shell')
    :gen_tcp.connect('127.0.0.1', 1, [], 100)
    Enum.random(1..5)
    :crypto.hash(:md5, "")
    System.get_env()
    """)

    File.write!("rel/env.sh.eex", ~S|<%= File.read!("from_template.txt") %><%= System.get_env("SEEN_IN_TEMPLATE") %>|)
  end

  def make("fail", _) do
    mix = fn body -> "defmodule F.MixProject do\n  use Mix.Project\n  #{body}\nend\n" end
    files = %{
      "syntax/mix.exs" => "defmodule F.MixProject do\n  use Mix.Project\n  def project, do: [)\nend\n",
      "unknown_module/mix.exs" => mix.("def project do\n    Nothing.There.all() ++ []\n  end"),
      "mix_raise/mix.exs" => mix.("def project, do: Mix.raise(\"plainly refused\")"),
      "config/config/config.exs" => "import Config\nraise \"no such setting\"\n",
      "config_throw/config/config.exs" => "import Config\nthrow(:ball)\n",
      "template/rel/vm.args.eex" => "+Q 1\n<%= raise \"in the template\" %>\n",
      "function/config/config.exs" => "import Config\nconfig :f, fun: fn -> 1 end\n",
      "unknown/mix.exs" => mix.("def project, do: [app: :f, version: \"1.0.0\", releases: [known: []]]"),
      "nothing/README" => "",
      "umbrella/mix.exs" =>
        mix.("def project, do: [apps_path: \"apps\", releases: [unknown_name: [version: \"1.0.0\"]]]")
    }

    for {file, text} <- files do
      File.mkdir_p!(Path.dirname(file))
      File.write!(file, text)
    end

    # Errors after mix.exs was loaded need a project that looks compiled.
    named = mix.("def project, do: [app: :f, version: \"1.0.0\", releases: [unknown_name: []]]")

    for name <- ~w(config config_throw template function) do
      File.write!(Path.join(name, "mix.exs"), named)
      compiled(name, "f")
    end
  end
end

case System.argv() do
  ["make", project, here] ->
    Check.make(project, here)

  ["compare", work | projects] ->
    Enum.each(projects, &Check.compare(&1, work))
    if Process.get(:wrong), do: System.halt(1)
    IO.puts("#{Process.get(:compared)} comparisons, all the same")
end

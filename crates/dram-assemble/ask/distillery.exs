# Evaluates `rel/config.exs`: the configuration language of Distillery, without Distillery.
#
# The modules that such a file uses are defined here, under Distillery's names and under
# the older `Mix.Releases` names. They exist only in this emulator and are loaded before
# the project's own modules, so it does not matter whether Distillery is a dependency.
# Plugins are reported and not run; enough of their API is defined to load plugin files.
#
# Options: `--env NAME`, `--profile RELEASE:ENV`, `--output-dir DIR` (the value of the
# release's root in templates), `--version V`.

defmodule DramAsk.Distillery.Language do
  @moduledoc false
  # The state that the statements of the file change; `at` is the current block.
  @key :dram_ask_distillery

  def start do
    Process.put(@key, %{
      environments: [],
      releases: [],
      default_release: :default,
      default_environment: :default,
      at: nil
    })
  end

  def read, do: Process.get(@key)

  def use(options) do
    chosen = Map.new(Keyword.take(options, [:default_release, :default_environment]))
    Process.put(@key, Map.merge(read(), chosen))
  end

  def open(list, name, value) when is_atom(name) do
    state = read()
    values = Keyword.put(state[list], name, value)
    Process.put(@key, %{state | list => values, at: {list, name}})
  end

  def open(list, name, _),
    do: raise(ArgumentError, "a name in #{list} must be an atom, not #{inspect(name)}")

  def close, do: Process.put(@key, %{read() | at: nil})

  def set(options) do
    Enum.each(options, fn {key, value} ->
      update(:set, fn
        %{applications: _} = release when key == :version ->
          %{release | version: value}

        %{applications: before} = release when key == :applications ->
          %{release | applications: before ++ value}

        %{profile: profile} = place ->
          key = renamed(key)

          unless Map.has_key?(profile, key),
            do: raise(ArgumentError, "there is no setting named `#{key}`")

          %{place | profile: Map.put(profile, key, value)}
      end)
    end)
  end

  # Distillery 1 had these under other names.
  defp renamed(:exec_opts), do: :executable
  defp renamed(key), do: key

  def plugin(module, options) do
    update(:plugin, fn %{profile: profile} = place ->
      %{place | profile: Map.update!(profile, :plugins, &(&1 ++ [{module, options}]))}
    end)
  end

  defp update(statement, fun) do
    state = read()

    case state.at do
      nil -> raise ArgumentError, "`#{statement}` must be in an environment or a release"
      {list, name} -> Process.put(@key, update_in(state, [list, name], fun))
    end
  end

  def version(app) when is_atom(app) do
    DramAsk.Mix.note_app(app)
    Application.load(app)

    case Application.spec(app, :vsn) do
      nil -> raise ArgumentError, "the version of #{app} is not known: it is not compiled"
      version -> to_string(version)
    end
  end

  # The settings of a profile. A setting that the environment leaves unset comes from the release.
  @profile %{
    output_dir: nil,
    vm_args: nil,
    cookie: nil,
    config: nil,
    sys_config: nil,
    executable: nil,
    erl_opts: nil,
    run_erl_env: nil,
    dev_mode: nil,
    no_dot_erlang: nil,
    include_erts: nil,
    erts_version: nil,
    include_src: nil,
    include_system_libs: nil,
    included_configs: [],
    config_providers: [],
    appup_transforms: [],
    strip_debug_info: nil,
    code_paths: nil,
    plugins: [],
    overlay_vars: [],
    overlays: [],
    overrides: nil,
    commands: nil
  }

  @hooks for moment <- ~w(configure start stop upgrade), side <- ~w(pre post), do: {side, moment}
  @hook_keys for {side, moment} <- @hooks, do: :"#{side}_#{moment}_hooks"
  # One script each, before there were directories of them.
  @old_hook_keys for {side, moment} <- @hooks, do: :"#{side}_#{moment}_hook"

  def hook_keys, do: @hook_keys
  def old_hook_keys, do: @old_hook_keys

  def environment(name), do: %{name: name, profile: empty()}

  def release(name) do
    set = %{
      output_dir: Path.relative_to_cwd(Path.join([Mix.Project.build_path(), "rel", "#{name}"])),
      erl_opts: "",
      run_erl_env: "",
      dev_mode: false,
      include_erts: true,
      include_src: false,
      include_system_libs: true,
      strip_debug_info: false,
      commands: [],
      overrides: []
    }

    %{name: name, version: "0.1.0", applications: [], profile: Map.merge(empty(), set)}
  end

  defp empty, do: Map.merge(@profile, Map.new(@hook_keys ++ @old_hook_keys, &{&1, nil}))
end

for module <- [Distillery.Releases.Config, Mix.Releases.Config] do
  defmodule module do
    @moduledoc false
    alias DramAsk.Distillery.Language, as: Dram

    defmacro __using__(options) do
      quote do
        import unquote(__MODULE__)
        Dram.use(unquote(options))
      end
    end

    defmacro environment(name, do: block) do
      quote do
        name = unquote(name)
        Dram.open(:environments, name, Dram.environment(name))
        unquote(block)
        Dram.close()
      end
    end

    defmacro release(name, do: block) do
      quote do
        name = unquote(name)
        Dram.open(:releases, name, Dram.release(name))
        unquote(block)
        Dram.close()
      end
    end

    defmacro set(options), do: quote(do: Dram.set(unquote(options)))

    defmacro plugin(module, options \\ []),
      do: quote(do: Dram.plugin(unquote(module), unquote(options)))

    defmacro current_version(app), do: quote(do: Dram.version(unquote(app)))
  end
end

for {plugin, shell} <- [
      {Distillery.Releases.Plugin, Distillery.Releases.Shell},
      {Mix.Releases.Plugin, Mix.Releases.Logger}
    ],
    not Code.ensure_loaded?(plugin) do
  defmodule shell do
    @moduledoc false
    for level <- [:debug, :info, :warn, :notice, :error], do: def(unquote(level)(_), do: :ok)
  end

  defmodule plugin do
    @moduledoc false
    @shell shell
    defmacro __using__(_) do
      quote do
        import unquote(@shell)

        def before_assembly(release, _ \\ []), do: release
        def after_assembly(release, _ \\ []), do: release
        def before_package(release, _ \\ []), do: release
        def after_package(release, _ \\ []), do: release
        def after_cleanup(arguments, _ \\ []), do: arguments

        defoverridable Module.definitions_in(__MODULE__, :def)
      end
    end
  end
end

defmodule DramAsk.Distillery do
  @moduledoc false
  alias DramAsk.Distillery.Language

  @base [:elixir, :iex, :mix, :sasl, :runtime_tools, :distillery]

  # The answer:
  # file            rel/config.exs
  # names           [atom]     of releases, in the order of the file
  # environments    [atom]
  # default_release, default_environment   as the file says; :default where it says nothing
  # name, version, environment   the chosen ones
  # applications    [app | {app, mode}]   as `set applications:` says, the project's own last
  # base            [app]      what Distillery puts before them
  # output_dir      path
  # settings        map        every other setting of the profile as it is after the
  #                            environment: dev_mode, include_erts, include_src,
  #                            include_system_libs, strip_debug_info, erl_opts, run_erl_env,
  #                            no_dot_erlang, executable (keyword: enabled, transient),
  #                            included_configs, config_providers, appup_transforms,
  #                            overrides, overlay_vars
  # cookie          text | nil
  # plugins         [{module, options}]   not run
  # hooks           [{setting, path}]     directories, or (singular settings) scripts
  # commands        [{name, path}]
  # overlays        [{:mkdir, to} | {:copy | :link, from, to} | {:template, from, to, text}]
  #                 in order; `to` is relative to the release, `from` absolute
  #                 (a link's `from` is as written)
  # providers       [%{module: text, path: text | nil, at: term | nil, why: text | nil}]
  #                 `at` is where Elixir's own provider will read the file; nil: it cannot, and why
  # vm_args         %{from, text} | nil
  # sys_config      %{from: path | nil, term, text}   the configuration with that file over it,
  #                 with the settings of sasl that Distillery gives; without `distillery:`
  def ask(project, config, name, options) do
    file = Path.expand("rel/config.exs")

    unless File.regular?(file),
      do: DramAsk.Mix.refuse(:no_project, "there is no rel/config.exs", file)

    Language.start()
    Code.eval_file(file)
    state = Language.read()

    if state.releases == [],
      do: DramAsk.Mix.refuse(:distillery, "rel/config.exs defines no release", file)

    {name, environment} = choose(name, options)
    release = find(state, :releases, name || state.default_release, file)

    environment =
      if state.environments == [] and environment in [nil, :default],
        do: Language.environment(:default),
        else: find(state, :environments, environment || state.default_environment, file)

    profile = merge(release.profile, environment.profile)
    version = options[:version] || release.version
    output_dir = options[:output_dir] || Path.expand(profile.output_dir)
    own = project[:app]
    listed = Enum.map(release.applications, &with({app, _} <- &1, do: app))

    applications =
      if own != nil and own == release.name and own not in listed,
        do: release.applications ++ [own],
        else: release.applications

    profile = %{
      profile
      | executable: executable(profile.executable),
        cookie: profile.cookie && to_string(profile.cookie),
        config: profile.config || project[:config_path],
        erts_version: erts_version(profile.include_erts)
    }

    seen = %{
      name: release.name,
      version: version,
      applications: applications,
      env: environment.name,
      is_upgrade: false,
      upgrade_from: nil,
      resolved_overlays: [],
      output_dir: output_dir,
      profile: Map.put(profile, :output_dir, output_dir)
    }

    bindings =
      [
        release: seen,
        release_name: release.name,
        release_version: version,
        is_upgrade: false,
        upgrade_from: nil,
        dev_mode: profile.dev_mode,
        include_erts: profile.include_erts,
        include_src: profile.include_src,
        include_system_libs: profile.include_erts,
        erl_opts: profile.erl_opts,
        run_erl_env: profile.run_erl_env,
        erts_vsn: profile.erts_version,
        output_dir: output_dir
      ] ++ (profile.overlay_vars || [])

    providers = Enum.map(profile.config_providers || [], &provider(&1, profile, bindings))

    own_keys =
      [:output_dir, :cookie, :plugins, :commands, :overlays, :vm_args, :sys_config, :config] ++
        Language.hook_keys() ++ Language.old_hook_keys()

    %{
      file: file,
      names: state.releases |> Keyword.keys() |> Enum.reverse(),
      environments: state.environments |> Keyword.keys() |> Enum.reverse(),
      default_release: state.default_release,
      default_environment: state.default_environment,
      name: release.name,
      version: version,
      environment: environment.name,
      applications: applications,
      base: @base,
      output_dir: output_dir,
      settings: Map.drop(profile, own_keys),
      cookie: profile.cookie,
      plugins: profile.plugins,
      hooks:
        for(
          key <- Language.hook_keys() ++ Language.old_hook_keys(),
          path = profile[key],
          do: {key, Path.expand(path)}
        ),
      commands: for({command, path} <- profile.commands || [], do: {command, Path.expand(path)}),
      overlays: Enum.map(profile.overlays || [], &overlay(&1, bindings, file)),
      vm_args: profile.vm_args && rendered(profile.vm_args, bindings),
      providers: providers,
      sys_config: sys_config(profile, base_config(profile, project, config), bindings, providers)
    }
  end

  @elixir_providers [Distillery.Releases.Config.Providers.Elixir, Mix.Releases.Config.Providers.Elixir]

  # Distillery runs config providers in a separate emulator before the system starts; Elixir runs them in the system at
  # boot. An Elixir file works with both if it uses `import Config`.
  defp provider({module, [path | _]}, profile, bindings)
       when module in @elixir_providers and is_binary(path) do
    case at_start(path) do
      nil ->
        unusable(module, path, "the path is not below the release, and begins with no other variable")

      at ->
        with "/" <> below <- is_tuple(at) and elem(at, 1) == "RELEASE_ROOT" and elem(at, 2),
             text when is_binary(text) <- laid_over(below, profile, bindings),
             false <- text =~ ~r/^\s*import Config\b/m do
          unusable(module, path, "the file does not say `import Config`")
        else
          _ -> %{module: inspect(module), path: path, at: at, why: nil}
        end
    end
  end

  defp provider({module, _}, _, _), do: unusable(module, nil, nil)
  defp provider(module, _, _), do: unusable(module, nil, nil)

  defp unusable(module, path, why), do: %{module: inspect(module), path: path, at: nil, why: why}

  # The path of the file at boot, in the form that `Config.Provider` uses.
  defp at_start("/" <> _ = path), do: path

  defp at_start(path) do
    case Regex.run(~r/^\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?(\/.*)$/, path) do
      [_, variable, below] when variable in ["RELEASE_ROOT_DIR", "RELEASE_ROOT"] ->
        {:system, "RELEASE_ROOT", below}

      [_, variable, below] ->
        {:system, variable, below}

      nil ->
        nil
    end
  end

  # The text of the overlay file with this target; nil if no overlay creates it.
  defp laid_over(below, profile, bindings) do
    Enum.find_value(profile.overlays || [], fn
      {kind, from, to} when kind in [:copy, :template] ->
        from = Path.expand(text(from, bindings))
        to = text(to, bindings)

        from =
          cond do
            to == below -> from
            String.starts_with?(below, to <> "/") -> Path.join(from, Path.relative_to(below, to))
            true -> nil
          end

        from && File.regular?(from) && File.read!(from)

      _ ->
        nil
    end)
  end

  # Adds the settings that `Config.Provider` needs at boot, as `mix release` does.
  defp with_providers(config, providers) do
    case for(%{at: at} when at != nil <- providers, do: at) do
      [] ->
        config

      paths ->
        options = [env: Mix.env(), target: Mix.target(), imports: :disabled]
        providers = for path <- paths, do: {Config.Reader, [path: path] ++ options}
        path = {:system, "RELEASE_SYS_CONFIG", ".config"}
        init = Config.Provider.init(providers, path, reboot_system_after_config: false)
        Config.Reader.merge(config, init)
    end
  end

  defp choose(name, options) do
    case options[:profile] && String.split(options[:profile], ":", parts: 2) do
      [name, environment] -> {String.to_atom(name), String.to_atom(environment)}
      nil -> {name, options[:env] && String.to_atom(options[:env])}
      _ -> DramAsk.Mix.refuse(:distillery, "a profile is RELEASE:ENVIRONMENT, not #{options[:profile]}")
    end
  end

  # `:default` is the first by name, unless something has that name.
  defp find(state, list, name, file) do
    found = state[list]

    cond do
      found[name] -> found[name]
      name == :default and list == :releases -> found |> Enum.sort() |> hd() |> elem(1)
      true -> missing(list, name, Keyword.keys(found), file)
    end
  end

  defp missing(list, name, known, file) do
    known = known |> Enum.reverse() |> Enum.map_join(", ", &to_string/1)
    what = if list == :releases, do: "release", else: "environment"
    kind = if list == :releases, do: :unknown_release, else: :distillery
    DramAsk.Mix.refuse(kind, "there is no #{what} named #{name}, only #{known}", file)
  end

  defp merge(release, environment) do
    Map.merge(release, environment, fn
      :plugins, ours, theirs -> (ours || []) ++ (theirs || [])
      _, ours, theirs when theirs in [nil, []] -> ours
      _, _, theirs -> theirs
    end)
  end

  defp executable(options) when is_list(options),
    do: Keyword.merge([enabled: false, transient: false], options)

  defp executable(enabled), do: [enabled: enabled == true, transient: false]

  defp erts_version(path) when is_binary(path) do
    case path |> Path.expand() |> Path.join("erts-*") |> Path.wildcard() do
      [erts | _] -> erts |> Path.basename() |> String.replace_prefix("erts-", "")
      [] -> DramAsk.Mix.refuse(:distillery, "there is no erts-VERSION in #{path} (include_erts)")
    end
  end

  defp erts_version(_), do: to_string(:erlang.system_info(:version))

  defp overlay({:mkdir, to}, bindings, _), do: {:mkdir, text(to, bindings)}

  defp overlay({:copy, from, to}, bindings, _),
    do: {:copy, Path.expand(text(from, bindings)), text(to, bindings)}

  defp overlay({:link, from, to}, bindings, _), do: {:link, text(from, bindings), text(to, bindings)}

  defp overlay({:template, from, to}, bindings, _) do
    %{from: from, text: text} = rendered(from, bindings)
    {:template, from, text(to, bindings), text}
  end

  defp overlay(other, _, file),
    do: DramAsk.Mix.refuse(:distillery, "not an overlay: #{inspect(other)}", file)

  defp text(template, bindings), do: EEx.eval_string(template, bindings)

  defp rendered(path, bindings) do
    path = Path.expand(text(path, bindings))
    %{from: path, text: EEx.eval_file(path, bindings)}
  end

  defp base_config(profile, project, config) do
    cond do
      profile.config in [nil, project[:config_path]] -> config
      not File.regular?(profile.config) -> []
      true -> Config.Reader.read!(profile.config, env: Mix.env(), target: Mix.target())
    end
  end

  defp sys_config(profile, config, bindings, providers) do
    sasl = Keyword.merge([errlog_type: :error, sasl_error_logger: false], config[:sasl] || [])
    config = Keyword.put(config, :sasl, sasl)
    given = profile.sys_config && rendered(profile.sys_config, bindings)

    term = if given, do: Config.Reader.merge(config, parse(given)), else: config
    full = with_providers(term, providers) ++ Enum.map(profile.included_configs || [], &String.to_charlist/1)

    %{
      from: given && given.from,
      term: term,
      text: IO.chardata_to_string(:io_lib.format("~tp.~n", [full]))
    }
  end

  defp parse(%{from: from, text: text}) do
    with {:ok, tokens, _} <- :erl_scan.string(String.to_charlist(text)),
         {:ok, term} <- :erl_parse.parse_term(tokens),
         true <- Keyword.keyword?(term) do
      term
    else
      {:error, {line, module, why}} -> bad(from, line, module.format_error(why))
      {:error, {line, module, why}, _} -> bad(from, line, module.format_error(why))
      _ -> bad(from, nil, "it is not a list of applications with their settings")
    end
  end

  defp bad(from, line, why) do
    line = if is_tuple(line), do: elem(line, 0), else: line
    throw({:dram_ask, %{kind: :sys_config, message: to_string(why), file: from, line: line, stack: ""}})
  end
end

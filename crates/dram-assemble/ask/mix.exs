# Queries a Mix project for its releases, by evaluating its own programs.
#
#   elixir ask.exs [--beams DIR] PROJECT_DIR ANSWER_FILE [OPTION…] [RELEASE]
#
# The caller has set MIX_ENV (and MIX_TARGET and the rest) and has compiled the project.
# Nothing is compiled here and no dependency's mix.exs is loaded. Standard output belongs
# to the project's programs; the answer is one term in ANSWER_FILE, in the external term
# format, written atomically by a rename. No file means that a program halted the emulator.
#
# Options: `--version V` and `--path DIR` override what the release says, as with
# `mix release`; `--all` resolves every release; `--mix` and `--distillery` choose where
# both are there (a project that has rel/config.exs and no `releases:` is Distillery's);
# `--env`, `--profile` and `--output-dir` are Distillery's, see distillery.exs. With
# `--steps DIR` the functions in `steps:` are called, and what they changed is in the answer;
# then the project is not traced. See steps.exs.
#
# The answer is `{:ok, map}` or `{:error, map}`. Strings are UTF-8 binaries, paths are
# absolute binaries, names of applications are atoms. A term of the user that cannot leave
# the emulator (a function, a process) is replaced by `{:unprintable, text}`.
# The error's map: kind (atom), message, file (path | nil), line (integer | nil),
# stack (text). The answer's map, key by key, is in `answer/3` and below it.
defmodule DramAsk.Mix do
  @format 1

  # Variables that Erlang, Elixir or Mix read before the tracing starts.
  @early ~w(MIX_ENV MIX_TARGET MIX_DEBUG MIX_QUIET MIX_EXS MIX_PATH ERL_LIBS ERL_FLAGS
            ERL_AFLAGS ERL_ZFLAGS ELIXIR_ERL_OPTIONS LANG LC_ALL LC_CTYPE)

  @switches [
    version: :string,
    path: :string,
    all: :boolean,
    mix: :boolean,
    distillery: :boolean,
    env: :string,
    profile: :string,
    output_dir: :string,
    steps: :string
  ]

  def main(args, load, own) do
    {options, rest} = OptionParser.parse!(args, strict: @switches)
    [project, answer | rest] = rest
    answer = Path.expand(answer)
    name = with [name | _] <- rest, do: String.to_atom(name), else: (_ -> nil)
    File.cd!(project)
    System.argv(["release" | rest])
    Mix.start()
    # Loaded before the tracing starts, so that they are not inputs of the project.
    for module <- [Mix.Release, Config.Reader, EEx, Mix.CLI], do: Code.ensure_loaded(module)

    work = answer <> ".work"
    File.mkdir_p!(work)
    steps = options[:steps] && Path.expand(options[:steps])
    if steps, do: load.("steps.exs"), else: :dram_inputs.start()

    term =
      try do
        {:ok, answer(name, options, %{load: load, work: work, steps: steps})}
      catch
        :throw, {:dram_ask, error} -> {:error, error}
        :throw, {:dram_step, error} -> {:error, error}
        kind, reason -> {:error, error(kind, reason, __STACKTRACE__)}
      end

    unless steps do
      inputs = :dram_inputs.stop([answer, work, :code.root_dir(), elixir_root() | own])
      Process.put(:dram_inputs, inputs)
    end

    File.rm_rf!(work)

    term =
      case term do
        {:ok, map} -> {:ok, Map.put(map, :inputs, Process.get(:dram_inputs))}
        error -> error
      end

    write = fn term ->
      half = "#{answer}.#{System.pid()}"
      File.write!(half, :erlang.term_to_binary(term))
      File.rename!(half, answer)
    end

    write.(term)
    if steps, do: apply(:"Elixir.DramAsk.Steps", :after_answer, [steps, write])
  end

  # ---- the answer ----

  # format      integer     changes when the meaning of a key does
  # kind        :mix | :distillery
  # elixir, otp, project, deps, config, inputs   maps, below; inputs: see dram_inputs.erl
  # releases    [map]       the one that was asked for, or all; see release/3
  # names       [atom]      all names in `releases:`, in the order of mix.exs
  # default     atom | nil  `default_release`
  # distillery  map | nil   see distillery.exs
  defp answer(name, options, context) do
    Enum.each(@early, &System.get_env/1)
    load_project()
    project = Mix.Project.config()
    prefer_target(project)
    project = if Mix.Project.get(), do: Mix.Project.config(), else: project
    {config, config_files} = read_config(project)
    built = add_code_paths(project)
    kind = kind(project, options)

    common = %{
      format: @format,
      kind: kind,
      elixir: elixir(),
      otp: otp(),
      project: project(project),
      deps: deps(project, built),
      config: %{
        file: if(config_files != [], do: absolute(project[:config_path])),
        files: Enum.map(config_files, &absolute/1),
        term: printable(config),
        text: config_text(config)
      },
      names: Keyword.keys(releases_of(project)),
      default: project[:default_release],
      releases: [],
      distillery: nil
    }

    case kind do
      :distillery ->
        context.load.("distillery.exs")
        asked = apply(:"Elixir.DramAsk.Distillery", :ask, [project, config, name, options])
        %{common | distillery: printable(asked)}

      :mix ->
        names = if options[:all], do: common.names, else: [name]
        names = if names == [], do: [nil], else: names
        overrides = Keyword.take(options, [:version, :path])
        %{common | releases: Enum.map(names, &release(&1, {project, config, overrides}, context))}
    end
  end

  # version   of Elixir
  # lib       where elixir/, eex/, iex/, logger/ and mix/ are
  # bin       its programs
  defp elixir do
    root = elixir_root()
    %{version: System.version(), lib: root, bin: Path.join(Path.dirname(root), "bin")}
  end

  defp elixir_root, do: :code.lib_dir(:elixir) |> to_string() |> Path.dirname() |> Path.expand()

  # root      where lib/ and erts-VSN/ are
  # lib       where OTP's applications are
  # release   "25"
  # version   "25.2.3", or release where OTP does not say
  # erts      "13.1.5"
  defp otp do
    root = to_string(:code.root_dir())
    release = System.otp_release()

    version =
      case File.read(Path.join([root, "releases", release, "OTP_VERSION"])) do
        {:ok, text} -> String.trim(text)
        _ -> release
      end

    %{
      root: root,
      lib: to_string(:code.lib_dir()),
      release: release,
      version: version,
      erts: to_string(:erlang.system_info(:version))
    }
  end

  # module       of mix.exs
  # file         mix.exs
  # dir          the project's
  # app          atom | nil (an umbrella's root)
  # version      text | nil
  # umbrella     boolean
  # apps         [{app, dir}]   of the umbrella
  # env, target  atoms
  # build        _build/ENV
  # lib          _build/ENV/lib
  # deps_dir, lockfile
  # consolidated %{path, wanted: boolean, present: boolean}
  # preferred_env  atom | nil    in which `mix release` would run without MIX_ENV
  # start_permanent  boolean
  defp project(project) do
    consolidated = absolute(Mix.Project.consolidation_path(project))
    build = absolute(Mix.Project.build_path(project))

    %{
      module: Mix.Project.get(),
      file: absolute(project_file()),
      dir: File.cwd!(),
      app: project[:app],
      version: project[:version],
      umbrella: Mix.Project.umbrella?(project),
      apps: for({app, path} <- Mix.Project.apps_paths(project) || [], do: {app, absolute(path)}),
      env: Mix.env(),
      target: Mix.target(),
      build: build,
      lib: Path.join(build, "lib"),
      deps_dir: absolute(project[:deps_path] || "deps"),
      lockfile: absolute(project[:lockfile] || "mix.lock"),
      consolidated: %{
        path: consolidated,
        wanted: !!project[:consolidate_protocols],
        present: File.dir?(consolidated)
      },
      preferred_env: cli(project)[:preferred_envs][:release],
      start_permanent: !!project[:start_permanent]
    }
  end

  # A list of maps, one for each application below _build/ENV/lib:
  # app       atom
  # build     its directory there
  # ebin      build/ebin
  # source    path | nil       where it is known without its mix.exs
  # declared  boolean          in the project's own `deps:`
  # opts      keyword          as declared: runtime, optional, override, …
  defp deps(project, built) do
    declared =
      for dep <- project[:deps] || [], {app, _, opts} <- [declared(dep)], wanted?(opts), do: {app, opts}

    apps = Mix.Project.apps_paths(project) || %{}
    deps_dir = absolute(project[:deps_path] || "deps")

    for {app, build} <- built do
      opts = declared[app]

      source =
        cond do
          app == project[:app] -> File.cwd!()
          apps[app] -> absolute(apps[app])
          is_binary(opts[:path]) -> absolute(opts[:path])
          opts[:in_umbrella] -> absolute("../#{app}")
          File.dir?(path = Path.join(deps_dir, to_string(app))) -> path
          true -> nil
        end

      %{
        app: app,
        build: build,
        ebin: Path.join(build, "ebin"),
        source: source,
        declared: opts != nil,
        opts: printable(opts || [])
      }
    end
  end

  defp declared({app, opts}) when is_list(opts), do: {app, nil, opts}
  defp declared({app, requirement}), do: {app, requirement, []}
  defp declared({app, requirement, opts}), do: {app, requirement, opts}
  defp declared(other), do: {other, nil, []}

  defp wanted?(opts) do
    (opts[:only] == nil or Mix.env() in List.wrap(opts[:only])) and
      (opts[:targets] == nil or Mix.target() in List.wrap(opts[:targets]))
  end

  # ---- loading ----

  # As the command `mix` does before it runs a task.
  defp load_project do
    for fun <- [:append_archives, :append_paths], function_exported?(ensure(Mix.Local), fun, 0),
        do: apply(Mix.Local, fun, [])

    if function_exported?(ensure(Mix.Utils), :mix_config, 0) do
      path = Path.join(Mix.Utils.mix_config(), "config.exs")

      if File.regular?(path),
        do: Application.put_all_env(Config.Reader.read!(path), persistent: true)
    end

    file = System.get_env("MIX_EXS") || "mix.exs"

    unless File.regular?(file),
      do: refuse(:no_project, "there is no #{file} in #{File.cwd!()}", absolute(file))

    evaluating(file)
    quietly(fn -> Code.compile_file(file) end)

    unless Mix.Project.get(),
      do: refuse(:no_project, "#{file} defines no Mix project", absolute(file))
  end

  # Mix itself says it since 1.13.
  defp project_file do
    named = function_exported?(Mix.Project, :project_file, 0) && Mix.Project.project_file()
    named || System.get_env("MIX_EXS") || "mix.exs"
  end

  # Mix does not warn of modules that are unknown while it compiles mix.exs.
  defp quietly(fun) do
    if function_exported?(Code, :get_compiler_option, 1) do
      before = Code.get_compiler_option(:no_warn_undefined)
      Code.put_compiler_option(:no_warn_undefined, :all)
      result = fun.()
      Code.put_compiler_option(:no_warn_undefined, before)
      result
    else
      fun.()
    end
  end

  defp cli(project) do
    module = Mix.Project.get()

    if module && function_exported?(module, :cli, 0) do
      module.cli()
    else
      [
        preferred_envs: project[:preferred_cli_env] || [],
        preferred_targets: project[:preferred_cli_target] || []
      ]
    end
  end

  defp prefer_target(project) do
    target = (cli(project)[:preferred_targets] || [])[:release]

    if target && System.get_env("MIX_TARGET") == nil && target != Mix.target() do
      Mix.target(target)
      %{name: name, file: file} = Mix.Project.pop()
      Mix.Project.push(name, file)
    end
  end

  # The configuration, once. Mix reads it twice: when it starts, into the environment of
  # the applications, and for sys.config.
  defp read_config(project) do
    path = project[:config_path]

    if path && File.regular?(path) do
      evaluating(path)
      {config, files} = Config.Reader.read_imports!(path, env: Mix.env(), target: Mix.target())
      Application.put_all_env(config, persistent: true)
      {config, files}
    else
      {[], []}
    end
  end

  # Adds all compiled applications, since a version, a provider or a template may use them.
  defp add_code_paths(project) do
    lib = Path.join(absolute(Mix.Project.build_path(project)), "lib")

    names =
      case File.ls(lib) do
        {:ok, names} -> Enum.sort(names)
        {:error, _} -> []
      end

    built = for name <- names, File.dir?(path = Path.join([lib, name, "ebin"])), do: {name, path}
    :code.add_pathsa(for {_, path} <- built, do: String.to_charlist(path))
    for {name, path} <- built, do: {String.to_atom(name), Path.dirname(path)}
  end

  defp kind(project, options) do
    cond do
      options[:mix] -> :mix
      options[:distillery] -> :distillery
      releases_of(project) == [] and File.regular?("rel/config.exs") -> :distillery
      true -> :mix
    end
  end

  # ---- a release ----

  defp releases_of(project), do: project[:releases] || []

  # name, version
  # path            where `mix release` would put it
  # applications    [{app, mode}]  as the user said
  # boot            [{app, mode}]  everything, in the order of the .rel file
  # boot_clean      the same for start_clean
  # boot_scripts    [{name, [{app, mode}]}]  of all scripts
  # changed_applications  boolean  whether a step changed the applications or the scripts
  # resolved        [map]  of every application: app, vsn, path, otp: boolean, mode
  # options         keyword        what is in the definition and not in a key here
  # include_erts    boolean | path
  # erts            %{source: path | nil, version}
  # strip_beams     boolean | keyword
  # cookie          text | nil     only if the user set one
  # overlays        [path]         in the order they are to be copied
  # steps           [:assemble | :tar | map]  the map: text, arity, module, name, external
  # executables     [:unix | :windows], and executables_set, whether the project says so
  # validate_compile_env  boolean
  # compile_env     [{app, path, {:ok, value} | :error}]
  # skip_mode_validation_for  [app]
  # providers       [{module, argument}]   with the reader of the runtime configuration
  # runtime_config  %{source: :default | :deprecated | :option | :off | :absent,
  #                   path: path | nil, exists: boolean}
  # reboot, prune, start_distribution   booleans
  # sys_config      the text of releases/VERSION/sys.config
  # templates       %{"vm.args" | "remote.vm.args" | "env.sh" => %{text, from: path | nil}}
  #                 from: nil is Mix's own text
  defp release(name, {project, config, overrides}, context) do
    {name, definition} = find(name, project)
    applications = definition[:applications] || []
    definition = Keyword.update(definition, :include_erts, true, &call/1)
    with {:from_app, app} <- definition[:version], do: note_app(app)
    resolved = resolve(name, definition, project, overrides, context)
    release = if context.steps, do: call_steps(resolved), else: resolved
    # A step may have written the configuration.
    config = if context.steps, do: elem(read_config(project), 0), else: config
    Process.put(:dram_with_reader, &elem(runtime_config(&1, project), 1))
    {runtime, release} = runtime_config(release, project)
    templates = Path.dirname(Mix.Release.rel_templates_path(release, "x"))
    overlays = Path.join(templates, "overlays")
    overlays = if File.dir?(overlays), do: [overlays], else: []

    known =
      ~w(include_executables_for strip_beams cookie overlays validate_compile_env quiet
         overwrite skip_mode_validation_for reboot_system_after_config
         prune_runtime_sys_config_after_boot start_distribution_during_config)a

    %{
      name: release.name,
      version: release.version,
      path: release.path,
      applications: applications,
      boot: release.boot_scripts[:start],
      boot_clean: release.boot_scripts[:start_clean],
      boot_scripts: release.boot_scripts |> Map.new() |> Map.to_list(),
      changed_applications:
        {release.applications, release.boot_scripts} != {resolved.applications, resolved.boot_scripts},
      resolved:
        for {app, properties} <- release.applications do
          %{
            app: app,
            vsn: to_string(properties[:vsn]),
            path: properties[:path] |> to_string() |> absolute(),
            otp: properties[:otp_app?],
            mode: properties[:mode]
          }
        end,
      options: printable(Keyword.drop(release.options, known)),
      include_erts:
        if(release.erts_source == resolved.erts_source,
          do: printable(definition[:include_erts]),
          else: if(release.erts_source, do: to_string(release.erts_source), else: false)
        ),
      erts: %{
        source: release.erts_source && to_string(release.erts_source),
        version: to_string(release.erts_version)
      },
      strip_beams: printable(Keyword.get(release.options, :strip_beams, true)),
      cookie: release.options[:cookie],
      overlays: Enum.map(overlays ++ List.wrap(release.options[:overlays]), &absolute/1),
      steps: Enum.map(release.steps, &step/1),
      executables: Keyword.get(release.options, :include_executables_for, [:unix, :windows]),
      executables_set: Keyword.has_key?(release.options, :include_executables_for),
      validate_compile_env: Keyword.get(release.options, :validate_compile_env, true),
      compile_env:
        for({_, p} <- release.applications, entry <- p[:compile_env] || [], do: printable(entry)),
      skip_mode_validation_for: Keyword.get(release.options, :skip_mode_validation_for, []),
      providers: printable(release.config_providers),
      runtime_config: runtime,
      reboot: !!release.options[:reboot_system_after_config],
      prune: !!release.options[:prune_runtime_sys_config_after_boot],
      start_distribution: !!release.options[:start_distribution_during_config],
      sys_config: sys_config(release, config, context.work),
      templates: %{
        "vm.args" => template(release, "vm.args", :vm_args_text),
        "remote.vm.args" => template(release, "remote.vm.args", :vm_args_text),
        "env.sh" => template(release, "env.sh", :env_text)
      }
    }
  end

  defp find(name, project) do
    releases = releases_of(project)
    name = name || if(length(releases) > 1, do: project[:default_release])

    found =
      case {name, releases} do
        {nil, [one]} -> one
        {nil, [_ | _]} -> refuse(:choose_release, "there are several releases: #{names(releases)}")
        {nil, []} -> {project[:app], []}
        # Without any, there is the one of the application, by its name too.
        {name, []} -> if name == project[:app], do: {name, []}
        {name, _} -> List.keyfind(releases, name, 0)
      end

    case found do
      nil when releases == [] ->
        refuse(:unknown_release, "there is no release named #{name}: mix.exs defines none")

      nil ->
        refuse(:unknown_release, "there is no release named #{name}, only #{names(releases)}")

      {name, definition} ->
        evaluating(project_file())
        definition = call(definition)

        if Mix.Project.umbrella?(project) and (definition[:applications] || []) == [] do
          refuse(
            :umbrella,
            "a release of an umbrella must list under `applications:` which of its applications it is made of"
          )
        end

        {name, definition}
    end
  end

  defp names(releases), do: releases |> Keyword.keys() |> Enum.map_join(", ", &to_string/1)

  defp call(fun) when is_function(fun, 0), do: fun.()
  defp call(value), do: value

  # Mix itself resolves the release. It asks for the names of all dependencies, to prefer
  # them over OTP's applications, and loads every dependency's mix.exs for that; here it
  # finds the names of what is compiled instead, unless the project made it load them.
  defp resolve(name, definition, project, overrides, %{steps: steps}) when is_binary(steps) do
    apply(:"Elixir.DramAsk.Steps", :prepare, [])
    Mix.Release.from_config!(name, Keyword.put(project, :releases, [{name, definition}]), overrides)
  end

  defp resolve(name, definition, project, overrides, _) do
    key = {:cached_deps, Mix.Project.get()}
    before = Mix.State.read_cache(key)
    lib = Path.join(Mix.Project.build_path(project), "lib")

    unless before do
      known = for {app, _} <- Mix.Project.apps_paths(project) || %{}, do: app
      names = for name <- ls(lib), do: String.to_atom(name)
      # The project's own application is none of its dependencies.
      names = Enum.uniq(known ++ names) -- [project[:app]]

      deps = for name <- names, do: struct(Mix.Dep, app: name, scm: Mix.SCM.Path, opts: [])
      Mix.State.write_cache(key, {{Mix.env(), Mix.target()}, deps})
    end

    project = Keyword.put(project, :releases, [{name, definition}])

    try do
      Mix.Release.from_config!(name, project, overrides)
    after
      unless before, do: Mix.State.write_cache(key, nil)
    end
  end

  defp ls(dir) do
    case File.ls(dir) do
      {:ok, names} -> names
      {:error, _} -> []
    end
  end

  defp runtime_config(release, project) do
    dir = Path.dirname(project[:config_path])
    default = Path.join(dir, "runtime.exs")
    deprecated = Path.join(dir, "releases.exs")
    option = release.options[:runtime_config_path]

    {source, path} =
      cond do
        option == false and since?("1.13.0") -> {:off, nil}
        option -> {:option, option}
        File.exists?(default) -> {:default, default}
        File.exists?(deprecated) -> {:deprecated, deprecated}
        true -> {:absent, nil}
      end

    runtime = %{
      source: source,
      path: path && absolute(path),
      exists: path != nil and File.regular?(path)
    }

    if path do
      init = [
        path: {:system, "RELEASE_ROOT", "/releases/#{release.version}/runtime.exs"},
        env: Mix.env(),
        target: Mix.target(),
        imports: :disabled
      ]

      reboot = source == :deprecated

      {runtime,
       %{
         release
         | config_providers: [{Config.Reader, init} | release.config_providers],
           options: Keyword.put_new(release.options, :reboot_system_after_config, reboot)
       }}
    else
      {runtime, release}
    end
  end

  defp since?(version), do: Version.compare(System.version(), version) != :lt

  # Mix itself writes the file, into a temporary directory, so that the text is identical.
  defp sys_config(release, config, work) do
    path = {:system, "RELEASE_SYS_CONFIG", ".config"}

    case Mix.Release.make_sys_config(%{release | version_path: work}, config, path) do
      :ok -> File.read!(Path.join(work, "sys.config"))
      {:error, message} -> refuse(:sys_config, message)
    end
  end

  # Nothing but the configuration, for callers who write sys.config themselves.
  defp config_text(config), do: IO.chardata_to_string(:io_lib.format("%% coding: utf-8~n~tw.~n", [config]))

  defp template(release, name, default) do
    path = Mix.Release.rel_templates_path(release, name <> ".eex")

    if File.exists?(path) do
      evaluating(path)
      %{text: EEx.eval_file(path, assigns: [release: release]), from: absolute(path)}
    else
      ensure(Mix.Tasks.Release.Init)
      # Since 1.15 it is asked whether the text is for a remote node; Mix itself says no for both files.
      arguments = if function_exported?(Mix.Tasks.Release.Init, default, 1), do: [false], else: []
      text = apply(Mix.Tasks.Release.Init, default, arguments)
      %{text: EEx.eval_string(text, assigns: [release: release]), from: nil}
    end
  end

  # An error of a step is one of the project's program; it is shown as Mix shows it.
  defp call_steps(release) do
    apply(:"Elixir.DramAsk.Steps", :before, [release])
  catch
    kind, reason -> throw({:dram_step, step_error(kind, reason, __STACKTRACE__)})
  end

  def step_error(kind, reason, stack) do
    stack = Enum.take_while(stack, &(not own_frame?(&1)))
    exception = if kind == :error, do: Exception.normalize(:error, reason, stack)
    # The configuration was evaluated last, and has no part in it.
    Process.delete(:dram_evaluating)
    error = error(kind, reason, stack)

    message =
      if exception && Map.get(exception, :mix),
        do: "** (Mix) #{Exception.message(exception)}",
        else: Exception.format(kind, reason, stack)

    %{error | kind: :step, message: message}
  end

  defp own_frame?({module, _, _, _}) when is_atom(module),
    do: String.starts_with?(Atom.to_string(module), "Elixir.DramAsk.")

  defp own_frame?(_), do: false

  defp step(step) when is_atom(step), do: step

  defp step(fun) do
    info = Map.new(:erlang.fun_info(fun))

    %{
      text: inspect(fun),
      arity: info.arity,
      module: info.module,
      name: info.name,
      external: info.type == :external
    }
  end

  # ---- small things ----

  defp absolute(path), do: Path.expand(path)

  defp ensure(module) do
    Code.ensure_loaded(module)
    module
  end

  # The emulator's own servers read the `.app` file; reading it here makes it an input.
  def note_app(app) do
    with dir when is_list(dir) <- :code.lib_dir(app), do: File.read(Path.join(dir, "ebin/#{app}.app"))
  end

  def printable(term) when is_function(term) or is_pid(term) or is_reference(term) or is_port(term),
    do: {:unprintable, inspect(term)}

  def printable([head | tail]), do: [printable(head) | printable(tail)]
  def printable(term) when is_tuple(term), do: term |> Tuple.to_list() |> printable() |> List.to_tuple()
  def printable(term) when is_map(term), do: :maps.map(fn _, value -> printable(value) end, term)
  def printable(term), do: term

  @spec refuse(atom, String.t(), String.t() | nil) :: no_return
  def refuse(kind, message, file \\ nil) do
    throw({:dram_ask, %{kind: kind, message: message, file: file, line: nil, stack: ""}})
  end

  # kind: :mix for what Mix itself says, :compile for what does not compile, :raise,
  # :throw or :exit for what the project's program does.
  defp error(kind, reason, stack) do
    exception = if kind == :error, do: Exception.normalize(:error, reason, stack)
    {file, line} = where(exception, stack)

    {kind, message} =
      cond do
        exception == nil -> {kind, Exception.format_banner(kind, reason, stack)}
        Map.get(exception, :mix) -> {:mix, Exception.message(exception)}
        compile_error?(exception) -> {:compile, Exception.format_banner(:error, exception, stack)}
        true -> {:raise, Exception.format_banner(:error, exception, stack)}
      end

    %{
      kind: kind,
      message: message,
      file: file && absolute(file),
      line: line,
      stack: Exception.format_stacktrace(Enum.take(stack, 20))
    }
  end

  defp compile_error?(%name{}),
    do: name in [CompileError, SyntaxError, TokenMissingError, MismatchedDelimiterError, EEx.SyntaxError]

  # Evaluated code often has no stack frame; then the file that was evaluated last is reported.
  defp evaluating(path), do: Process.put(:dram_evaluating, path)

  # The innermost position in a file of the project.
  defp where(%{file: file, line: line}, _) when is_binary(file) and is_integer(line), do: {file, line}

  defp where(_, stack) do
    Enum.find_value(stack, {Process.get(:dram_evaluating), nil}, fn {_, _, _, location} ->
      with file when file not in [nil, []] <- location[:file],
           file = to_string(file),
           true <- String.ends_with?(file, [".exs", ".ex", ".eex"]) and File.regular?(file),
           false <- String.starts_with?(absolute(file), [elixir_root(), __DIR__]) do
        {file, location[:line]}
      else
        _ -> nil
      end
    end)
  end
end

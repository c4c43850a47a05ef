~w(rel plugins *.exs)
|> Path.join()
|> Path.wildcard()
|> Enum.map(&Code.eval_file(&1))

use Distillery.Releases.Config,
  default_release: :still,
  default_environment: Mix.env()

environment :dev do
  set dev_mode: true
  set include_erts: false
  set cookie: :dev_cookie
end

environment :prod do
  set include_erts: true
  set include_src: false
  set cookie: :prod_cookie
  set vm_args: "rel/vm.args.eex"
  set pre_start_hooks: "rel/hooks/pre_start"
  set overlay_vars: [colour: "amber"]
  plugin Still.Plugin, loud: true
end

release :still do
  set version: current_version(:still)
  set applications: [:runtime_tools, crypto: :load]
  set sys_config: "rel/sys.config"
  set cookie: :overridden
  set commands: [greet: "rel/commands/greet.sh"]
  set config_providers: [{Distillery.Releases.Config.Providers.Elixir, ["${RELEASE_ROOT_DIR}/etc/config.exs"]}]

  set overlays: [
    {:mkdir, "var/<%= release_name %>"},
    {:copy, "rel/notes.txt", "share/notes-<%= release_version %>.txt"},
    {:link, "rel/notes.txt", "share/linked.txt"},
    {:template, "rel/templates/unit.service.eex", "etc/<%= release_name %>.service"}
  ]

  set strip_debug_info: true
  plugin Still.Plugin
end

release :another do
  set version: "9.9.9"
  set applications: [still: :permanent]
end

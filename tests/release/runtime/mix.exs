defmodule Runtime.MixProject do
  use Mix.Project

  def project do
    [
      app: :runtime,
      version: String.trim(File.read!("VERSION")),
      start_permanent: Mix.env() == :prod,
      releases: [
        runtime: [
          config_providers: [{Runtime.Provider, %{file: "/nowhere/runtime.json"}}],
          cookie: "not-a-secret",
          overlays: ["more"],
          skip_mode_validation_for: [:none_such],
          prune_runtime_sys_config_after_boot: true,
          steps: [&__MODULE__.before/1, :assemble, &after_it/1, :tar]
        ],
        reboots: [
          version: "2.0.0-rc.1+build.5",
          runtime_config_path: "config/other_runtime.exs",
          reboot_system_after_config: true,
          validate_compile_env: false,
          rel_templates_path: "templates"
        ],
        fixed: [runtime_config_path: false]
      ],
      default_release: :runtime
    ]
  end

  def application, do: [extra_applications: [:logger], mod: {Runtime.Application, []}]

  def before(release), do: release
  defp after_it(release), do: release
end

//! Options of `docker build` that make no sense without a daemon. Options that change nothing are ignored; those that
//! ask for something else are refused by name, with help.

use crate::cli::LegacyBuildArgs;
use crate::failure::Failure;

/// Fails for an option that is not supported.
pub(super) fn check(legacy: &LegacyBuildArgs) -> Result<(), Failure> {
    // Every field is listed, so that a new one does not compile until it is handled.
    let LegacyBuildArgs {
        load: _,
        debug: _,
        squash,
        // Nothing is left over and nothing is sent, so these change nothing.
        rm: _,
        force_rm: _,
        compress: _,
        disable_content_trust: _,
        builder,
        sbom,
        provenance,
        attest,
        cgroup_parent,
        isolation,
        security_opt,
        memory,
        memory_swap,
        cpu_shares,
        cpu_period,
        cpu_quota,
        cpuset_cpus,
        cpuset_mems,
    } = legacy;
    if *squash {
        return Err(not_supported("--squash", "layers are not put together")
            .help("end the Dockerfile with `FROM scratch` and `COPY --from=STAGE / /`"));
    }
    let limits = [
        ("--memory", memory, "MemoryMax=1G"),
        ("--memory-swap", memory_swap, "MemorySwapMax=1G"),
        ("--cpu-shares", cpu_shares, "CPUWeight=50"),
        ("--cpu-period", cpu_period, "CPUQuota=200%"),
        ("--cpu-quota", cpu_quota, "CPUQuota=200%"),
        ("--cpuset-cpus", cpuset_cpus, "AllowedCPUs=0-3"),
        ("--cpuset-mems", cpuset_mems, "AllowedMemoryNodes=0"),
    ];
    for (option, given, property) in limits {
        if given.as_deref().is_some_and(|value| !value.is_empty() && value != "0") {
            let help = format!("bound all of the build: `systemd-run --scope -p {property} dram build …`");
            return Err(not_supported(option, "control groups are the service manager's").help(help));
        }
    }
    check_builder_options(builder.as_deref(), isolation.as_deref(), cgroup_parent.as_deref(), security_opt)?;
    check_attestations(sbom.as_deref(), provenance.as_deref(), attest)
}

fn not_supported(option: &str, why: &str) -> Failure {
    Failure::usage(format!("`{option}` is not supported: {why}"))
}

fn check_builder_options(
    builder: Option<&str>,
    isolation: Option<&str>,
    cgroup_parent: Option<&str>,
    security_opt: &[String],
) -> Result<(), Failure> {
    let named = |value: Option<&str>| value.is_some_and(|value| !value.is_empty() && value != "default");
    if named(builder) {
        return Err(not_supported("--builder", "there are no builders, dram builds here").help("leave it out"));
    }
    if named(isolation) {
        return Err(not_supported("--isolation", "commands are always isolated in the same way").help("leave it out"));
    }
    if named(cgroup_parent) {
        return Err(not_supported("--cgroup-parent", "control groups are the service manager's")
            .help("`systemd-run --scope --slice=SLICE dram build …`"));
    }
    match security_opt.first() {
        None => Ok(()),
        Some(_) => Err(not_supported("--security-opt", "commands always run under dram's own profile").help(
            "leave it out; a command that needs more says `RUN --security=insecure`, allowed with \
             `--allow security.insecure`",
        )),
    }
}

fn check_attestations(sbom: Option<&str>, provenance: Option<&str>, attest: &[String]) -> Result<(), Failure> {
    let off = |value: &str| ["", "false", "0", "f", "F", "FALSE", "False", "disabled=true"].contains(&value);
    let help = "leave it out, or give it `false`; tools such as `syft` describe an image that was written out with \
                `--output type=oci,dest=image.tar`";
    for (option, value) in [("--sbom", sbom), ("--provenance", provenance)] {
        if value.is_some_and(|value| !off(value)) {
            return Err(not_supported(option, "images are made without attestations").help(help));
        }
    }
    let on = |text: &&String| !text.split(',').any(|field| field.trim() == "disabled=true");
    match attest.iter().find(on) {
        Some(_) => Err(not_supported("--attest", "images are made without attestations").help(help)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, CliCommand};

    fn checked(words: &[&str]) -> Result<(), Failure> {
        let line = ["dram", "build"].iter().chain(words).chain(&["."]);
        let CliCommand::Build(args) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
        check(&args.legacy)
    }

    #[test]
    fn options_without_effect_are_ignored() {
        for words in [
            &["--rm", "--force-rm", "--compress", "--load"][..],
            &["--rm=false", "--push=false", "--squash=false"],
            &["--provenance=false", "--sbom=false", "--attest", "type=provenance,disabled=true"],
            &["--builder", "default", "--isolation=default", "--cgroup-parent", "", "-m", "0"],
        ] {
            assert!(checked(words).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn unsupported_options_are_refused_with_help() {
        for words in [
            &["--squash"][..],
            &["-m", "1g"],
            &["--memory-swap=1g"],
            &["-c", "512"],
            &["--cpuset-cpus", "0-1"],
            &["--builder", "remote"],
            &["--isolation", "hyperv"],
            &["--cgroup-parent", "build.slice"],
            &["--security-opt", "seccomp=unconfined"],
            &["--sbom=true"],
            &["--provenance", "mode=max"],
            &["--attest", "type=sbom"],
        ] {
            let failure = checked(words).unwrap_err();
            assert_eq!((failure.code(), failure.helps.len()), (2, 1), "{words:?}");
            assert!(failure.causes[0].contains("is not supported"), "{words:?}");
        }
    }
}

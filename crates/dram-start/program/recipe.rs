//! The build of a program without the standard library: the start program of releases, and the helper of jails. Shared by
//! the crates that embed them and by tests.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "cargo is a program, told by its environment")]

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the program `name` of the package in the directory `program` for `target`, in the directory `work`. Returns its
/// path.
///
/// # Errors
/// Returns the output of cargo, or the error that kept cargo from starting.
pub(crate) fn build(program: &Path, name: &str, target: &str, work: &Path) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    // Variables of the outer cargo are about its own package, and those of a user about the outer build.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_NET_GIT_FETCH_WITH_CLI"].contains(&text.as_ref());
        let disturbs = ["RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC", "RUSTDOC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];
        let cargos = ["CARGO_", "CLIPPY_", "__CARGO"].iter().any(|prefix| text.starts_with(prefix));
        // The linker for this target is a property of the machine; without it nothing is built for another processor.
        let links = text == linker;
        if (cargos && !ours && !links) || disturbs.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    // A position fixed at link time needs no loader and no relocations.
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Crelocation-model=static\u{1f}-Ctarget-feature=+crt-static");
    command.args(["build", "--release", "--locked", "--offline", "--quiet", "--target", target]);
    command.arg("--manifest-path").arg(program.join("Cargo.toml")).arg("--target-dir").arg(work);
    command.current_dir(program);
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo cannot build the program `{name}`:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(work.join(target).join("release").join(name))
}

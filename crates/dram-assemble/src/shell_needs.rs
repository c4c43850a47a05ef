//! Finds what needs a shell in a portable release, which is made for images without one.

use std::io::Read as _;

use dram_image::TreePath;
use dram_start::env_script::evaluate_assignments;
use dram_start::environment::EnvironmentVariables;
use dram_start::start_conf::{START_HOOKS, StartConf};

use crate::AssembleError;
use crate::tree::{ReleaseEntry, ReleaseFileContent, ReleaseTree, below_root};

/// The size limit of an `env.sh` that is read.
const MAX_SCRIPT_BYTES: u64 = 1 << 20;

/// Returns a warning that names the files of `tree` that only work where there is a shell: an `env.sh` that does more than
/// assign variables, hooks, custom commands, and scripts in `bin/`. `of_version` is the directory of the version.
///
/// # Errors
/// Returns an error if a file of the project cannot be read.
pub(crate) fn shell_warning(
    tree: &ReleaseTree,
    of_version: &TreePath,
    conf: &StartConf,
) -> Result<Option<String>, AssembleError> {
    let name = String::from_utf8_lossy(&conf.name).into_owned();
    let mut needs = Vec::new();
    let mut ways_out = Vec::new();
    let env_sh = of_version.join(b"env.sh");
    if let Some(text) = read_entry(tree.get(&env_sh), MAX_SCRIPT_BYTES)?
        && evaluate_assignments(&text, &EnvironmentVariables::default()).is_none()
    {
        needs.push(format!("`{}`", below_root(&env_sh)));
        ways_out.push("only assign in `env.sh` (`NAME=value`, `${NAME:-default}`)".to_owned());
    }
    let hooks = START_HOOKS.iter().flat_map(|point| conf.hooks_at(*point));
    let scripts = hooks.chain(conf.custom_commands.iter().map(|own| own.path.as_slice()));
    needs.extend(scripts.map(|path| format!("`{}`", String::from_utf8_lossy(path))));
    let mut has_script = false;
    for (path, entry) in tree.iter() {
        let is_program = path.parent().is_some_and(|dir| dir.as_bytes() == b"bin")
            && matches!(entry, ReleaseEntry::File { mode, .. } if mode & 0o111 != 0);
        if is_program && read_entry(Some(entry), 2)?.as_deref() == Some(b"#!") {
            has_script = true;
            needs.push(format!("`{}`", below_root(path)));
        }
    }
    if has_script {
        ways_out.push(format!("start `bin/{name}` instead of a script"));
    }
    ways_out.push("use a base image with a shell".to_owned());
    Ok((!needs.is_empty()).then(|| {
        format!(
            "the release is portable, but a shell is needed by {}, and an image `FROM scratch` has none: {}",
            needs.join(", "),
            ways_out.join(", or ")
        )
    }))
}

/// Returns the beginning of a file of the release; `None` if the entry is no file.
fn read_entry(entry: Option<&ReleaseEntry>, most: u64) -> Result<Option<Vec<u8>>, AssembleError> {
    let Some(ReleaseEntry::File { content, .. }) = entry else { return Ok(None) };
    let limit = usize::try_from(most).unwrap_or(usize::MAX);
    match content {
        ReleaseFileContent::Bytes(bytes) => Ok(Some(bytes.iter().take(limit).copied().collect())),
        ReleaseFileContent::Embedded(bytes) => Ok(Some(bytes.iter().take(limit).copied().collect())),
        ReleaseFileContent::Disk(path) | ReleaseFileContent::Beam(path, _) => {
            let mut bytes = Vec::new();
            let read = std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
            read.map_err(|source| AssembleError::Io { verb: "read", path: path.clone(), source })?;
            Ok(Some(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_project::tree_path;

    fn warning(files: &[(&str, &str, u32)], conf: &str) -> Option<String> {
        let mut tree = ReleaseTree::default();
        for (path, text, mode) in files {
            let content = ReleaseFileContent::Bytes(text.as_bytes().to_vec());
            tree.put(tree_path(path), ReleaseEntry::File { content, mode: *mode });
        }
        let conf = StartConf::parse(b"start.conf", format!("name = app\n{conf}").as_bytes()).unwrap();
        shell_warning(&tree, &tree_path("releases/1"), &conf).unwrap()
    }

    #[test]
    fn files_of_a_portable_release_that_need_a_shell_are_named() {
        let env = |text| [("releases/1/env.sh", text, 0o644)];
        assert_eq!(warning(&[], ""), None);
        assert_eq!(warning(&env("export A=1\nB=${C:-2}\n"), ""), None);
        let told = warning(&env("export A=$(hostname)\n"), "").unwrap();
        assert!(told.contains("needed by `releases/1/env.sh`,") && told.contains("only assign"), "{told}");
        let told = warning(&[], "hook.pre_start = hooks/a.sh\ncommand.migrate = bin/m.sh\n").unwrap();
        assert!(told.contains("needed by `hooks/a.sh`, `bin/m.sh`,"), "{told}");
        assert_eq!(warning(&[], "hook.post_stop = hooks/a.sh\n"), None, "the release starts without it");
        let told = warning(&[("bin/server", "#!/bin/sh\n", 0o755)], "").unwrap();
        assert!(told.contains("`bin/server`") && told.contains("start `bin/app` instead"), "{told}");
        let others = [
            ("bin/server.bat", "@echo off\n", 0o755),
            ("bin/notes", "#!/bin/sh\n", 0o644),
            ("bin/app", "\x7fELF", 0o755),
            ("lib/a-1/priv/x.sh", "#!/bin/sh\n", 0o755),
        ];
        assert_eq!(warning(&others, ""), None);
    }
}

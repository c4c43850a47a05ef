//! Finds commands of an image that call a release which has no node name, although the command needs one. Such a health
//! check fails always.

use std::io::Read as _;

use dram_image::{ContainerConfig, TreePath};
use dram_start::byte_string::split_words;
use dram_start::environment::EnvironmentVariables;
use dram_start::named_release::{NamingFiles, needs_node_name};
use dram_start::start_conf::StartConf;
use dram_store::{FileKind, FileTree as _, MergedTree, StoreError};

use crate::{LayerProvider, Snapshot};

/// The size limit of a file of a release that is read.
const MAX_FILE_SIZE: u64 = 1 << 20;
/// The most words of a command that are looked at.
const MAX_WORDS: usize = 256;

/// A command of an image that needs the node name of a release that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnamedReleaseCall {
    /// The instruction: `HEALTHCHECK`, or `CMD` for the entry point with its arguments.
    pub instruction: &'static str,
    /// The start program, as the command calls it.
    pub program: String,
    /// The command of the start program.
    pub command: String,
}

/// Returns the calls of releases in the health check and the command of an image that fail because the release has no
/// node name.
///
/// # Errors
/// Returns an error if a layer cannot be read.
pub fn unnamed_release_calls(
    provider: &LayerProvider<'_>,
    snapshot: &Snapshot,
    config: &ContainerConfig,
) -> Result<Vec<UnnamedReleaseCall>, StoreError> {
    let health = config.healthcheck.as_ref().map(|check| check.test.clone()).unwrap_or_default();
    let command = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect();
    let calls: Vec<_> = [("HEALTHCHECK", health), ("CMD", command)]
        .into_iter()
        .flat_map(|(instruction, words)| possible_calls(instruction, &words))
        .collect();
    // Lazy layers are not pulled for this check.
    if calls.is_empty() || !provider.is_local(&snapshot.layers) {
        return Ok(Vec::new());
    }
    let view = provider.store().layers().view(&provider.ensure_outside_build(&snapshot.layers)?)?;
    Ok(calls.into_iter().filter(|call| fails_without_name(&view, config, call) == Some(true)).collect())
}

/// The pairs of a program and a command that needs a node name, also inside of shell scripts.
fn possible_calls(instruction: &'static str, words: &[String]) -> Vec<UnnamedReleaseCall> {
    let is_separator = |c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '"' | '\'');
    let words = words.iter().flat_map(|word| word.split(is_separator)).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.take(MAX_WORDS).collect();
    let pairs = words.windows(2).filter(|pair| needs_node_name(pair[1].as_bytes()));
    let call =
        |pair: &[&str]| UnnamedReleaseCall { instruction, program: pair[0].to_owned(), command: pair[1].to_owned() };
    pairs.map(call).collect()
}

/// Returns true if the program is that of a release without a node name; `None` if it is not one of a release.
fn fails_without_name(view: &MergedTree, config: &ContainerConfig, call: &UnnamedReleaseCall) -> Option<bool> {
    let env = EnvironmentVariables::from_strings(
        &config.env.iter().map(|text| text.clone().into_bytes()).collect::<Vec<_>>(),
    );
    let program = find_program(view, config, &env, &call.program)?;
    let root = program.parent()?.parent().unwrap_or_default();
    // What `start_erl.data` says may be anything.
    let read = |path: &[u8]| read_file(view, &TreePath::clean(&[root.as_bytes(), b"/", path].concat()).ok()?);
    let version = split_words(&read(b"releases/start_erl.data")?).into_iter().nth(1)?;
    let dir = [b"releases/".as_slice(), &version, b"/"].concat();
    let conf = read(&[&dir, b"start.conf".as_slice()].concat())?;
    let conf = StartConf::parse(b"start.conf", &conf).ok()?;
    let of_version = |name: &str| read(&[&dir, name.as_bytes()].concat());
    let vm_args = of_version("vm.args").or_else(|| of_version("vm.args.src")).unwrap_or_default();
    let env_sh = of_version("env.sh");
    let files = NamingFiles { conf, vm_args: &vm_args, env_sh: env_sh.as_deref() };
    Some(!files.may_name_node(&env))
}

/// The path of a program, with links resolved, as the kernel and a shell find it.
fn find_program(
    view: &MergedTree,
    config: &ContainerConfig,
    env: &EnvironmentVariables,
    name: &str,
) -> Option<TreePath> {
    let places: Vec<String> = match name {
        name if name.starts_with('/') => vec![name.to_owned()],
        name if name.contains('/') => vec![format!("{}/{name}", config.working_dir)],
        name => {
            let path = String::from_utf8_lossy(env.get("PATH").unwrap_or(b"/usr/local/bin:/usr/bin:/bin")).into_owned();
            path.split(':').map(|dir| format!("{dir}/{name}")).collect()
        }
    };
    places.iter().find_map(|place| {
        let node = view.find(&TreePath::clean(place.as_bytes()).ok()?, true).ok()??;
        (node.status.kind == FileKind::File).then_some(node.path)
    })
}

fn read_file(view: &MergedTree, path: &TreePath) -> Option<Vec<u8>> {
    let node = view.find(path, true).ok()??;
    if node.status.kind != FileKind::File {
        return None;
    }
    let mut bytes = Vec::new();
    view.open(&node.path).ok()?.take(MAX_FILE_SIZE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &[&str]) -> Vec<(String, String)> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        possible_calls("CMD", &words).into_iter().map(|call| (call.program, call.command)).collect()
    }

    #[test]
    fn calls_are_found_in_both_forms_of_a_command() {
        let call = |program: &str, command: &str| vec![(program.to_owned(), command.to_owned())];
        assert_eq!(found(&["CMD", "bin/x", "rpc", "X.healthy?()"]), call("bin/x", "rpc"));
        assert_eq!(found(&["CMD-SHELL", "/app/bin/x remote || exit 1"]), call("/app/bin/x", "remote"));
        assert_eq!(found(&["/bin/sh", "-c", "sleep 1; \"bin/x\" rpc 'a()'"]), call("bin/x", "rpc"));
        assert_eq!(found(&["CMD", "bin/x", "ping"]), []);
        assert_eq!(found(&["NONE"]), []);
    }
}

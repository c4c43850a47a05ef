//! Finds the program's own path, and by it the release. Works without `/proc`.

use alloc::format;
use alloc::vec::Vec;

use dram_start::byte_string::{ByteString, concat, file_name, parent_path};
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::release::{ReleaseHome, parse_start_erl_data};

use crate::files;
use crate::sys::{self, StartArguments};

/// The most symbolic links that are followed.
const MAX_LINKS: usize = 16;

/// Finds the release that this program belongs to.
pub(crate) fn find_release(start: &StartArguments, env: &EnvironmentVariables) -> Result<ReleaseHome, StartError> {
    let prog = file_name(start.arguments.first().unwrap_or(&start.path)).to_vec();
    for path in program_paths(start) {
        let Some(program) = resolve_links(&path) else { continue };
        let root = parent_path(parent_path(&program)).to_vec();
        let data = concat(&[&root, b"/releases/start_erl.data"]);
        let Some(text) = files::read_optional(&data)? else { continue };
        let (erts, vsn) = parse_start_erl_data(&text)?;
        let asked = env.get_non_empty("RELEASE_VSN").filter(|asked| *asked != vsn).map(<[u8]>::to_vec);
        if let Some(asked) =
            asked.as_ref().filter(|asked| !files::is_directory(&concat(&[&root, b"/releases/", asked])))
        {
            let what = format!("there is no version `{}` in `{}/releases`", printable(asked), printable(&root));
            return Err(StartError::new(what, "set the variable RELEASE_VSN to a version that is there, or unset it"));
        }
        return Ok(ReleaseHome { root, program, prog, erts, vsn: asked.unwrap_or(vsn) });
    }
    let what = format!(
        "cannot find the release of `{}`: there is no `releases/start_erl.data` beside `bin`",
        printable(&start.path)
    );
    Err(StartError::new(what, "call the program where the release was unpacked, or by a symbolic link to it"))
}

/// The paths by which this program may have been executed.
fn program_paths(start: &StartArguments) -> Vec<ByteString> {
    let mut found = Vec::new();
    if !start.path.is_empty() {
        found.push(start.path.clone());
    }
    found.extend(sys::read_link(b"/proc/self/exe"));
    found.extend(start.arguments.first().filter(|name| name.contains(&b'/')).cloned());
    found
}

/// The absolute path, with a symbolic link at its end resolved.
fn resolve_links(path: &[u8]) -> Option<ByteString> {
    let mut path = path.to_vec();
    for _ in 0..MAX_LINKS {
        match sys::read_link(&path) {
            Ok(to) if to.starts_with(b"/") => path = to,
            Ok(to) => path = concat(&[parent_path(&path), b"/", &to]),
            Err(_) => {
                let directory = absolute_directory(parent_path(&path))?;
                let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
                return Some(concat(&[&directory, slash, file_name(&path)]));
            }
        }
    }
    None
}

/// The absolute path of a directory: enters it and asks the kernel for the current directory.
fn absolute_directory(path: &[u8]) -> Option<ByteString> {
    let before = sys::open(b".", sys::PATH | sys::CLOEXEC, 0).ok()?;
    sys::change_directory(path).ok()?;
    let found = sys::current_directory().ok().filter(|found| found.starts_with(b"/"));
    sys::change_directory_to(&before).ok()?;
    found
}

//! Finds the program's own path, and by it the release. Works without `/proc`.

use alloc::format;
use alloc::vec::Vec;

use dram_start::bytes::{Bytes, file_name, join, parent};
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::release::{Home, versions};

use crate::files;
use crate::sys::{self, Start};

/// The most symbolic links that are followed.
const LINKS: usize = 16;

/// Finds the release that this program belongs to.
pub(crate) fn find(start: &Start, env: &Environment) -> Result<Home, Fault> {
    let prog = file_name(start.arguments.first().unwrap_or(&start.path)).to_vec();
    for path in candidates(start) {
        let Some(program) = resolve(&path) else { continue };
        let root = parent(parent(&program)).to_vec();
        let data = join(&[&root, b"/releases/start_erl.data"]);
        let Some(text) = files::read_optional(&data)? else { continue };
        let (erts, vsn) = versions(&text)?;
        let vsn = env.filled("RELEASE_VSN").map_or(vsn, <[u8]>::to_vec);
        return Ok(Home { root, program, prog, erts, vsn });
    }
    let what = format!(
        "cannot find the release of `{}`: there is no `releases/start_erl.data` beside `bin`",
        shown(&start.path)
    );
    Err(Fault::new(what, "call the program where the release was unpacked, or by a symbolic link to it"))
}

/// The paths by which this program may have been executed.
fn candidates(start: &Start) -> Vec<Bytes> {
    let mut found = Vec::new();
    if !start.path.is_empty() {
        found.push(start.path.clone());
    }
    found.extend(sys::read_link(b"/proc/self/exe"));
    found.extend(start.arguments.first().filter(|name| name.contains(&b'/')).cloned());
    found
}

/// The absolute path, with a symbolic link at its end resolved.
fn resolve(path: &[u8]) -> Option<Bytes> {
    let mut path = path.to_vec();
    for _ in 0..LINKS {
        match sys::read_link(&path) {
            Ok(to) if to.starts_with(b"/") => path = to,
            Ok(to) => path = join(&[parent(&path), b"/", &to]),
            Err(_) => {
                let directory = directory(parent(&path))?;
                let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
                return Some(join(&[&directory, slash, file_name(&path)]));
            }
        }
    }
    None
}

/// The absolute path of a directory: enters it and asks the kernel for the current directory.
fn directory(path: &[u8]) -> Option<Bytes> {
    let before = sys::open(b".", sys::PATH | sys::CLOEXEC, 0).ok()?;
    sys::change_directory(path).ok()?;
    let found = sys::current_directory().ok().filter(|found| found.starts_with(b"/"));
    sys::change_directory_to(&before).ok()?;
    found
}

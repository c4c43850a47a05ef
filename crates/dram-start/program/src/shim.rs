//! Runs the trampoline of a portable release: the program was called by a link, and the real file lies in `.elf` beside
//! it.

use alloc::format;

use dram_start::bytes::{Bytes, file_name, join, parent};
use dram_start::conf::Conf;
use dram_start::fault::{Fault, shown};
use dram_start::release::versions;
use dram_start::shim::{REAL, loaded};

use crate::files;
use crate::sys::{self, Start};

/// The most directories between a program and the release's root.
const LEVELS: usize = 8;

/// Executes the real program if this program was called by such a link. Returns otherwise.
pub(crate) fn run(start: &Start) -> Result<(), Fault> {
    let directory = parent(&start.path);
    let real = join(&[directory, b"/", REAL, b"/", file_name(&start.path)]);
    if start.path.is_empty() || !sys::may(&real, 0) {
        return Ok(());
    }
    let (root, conf) = release(directory)?;
    let name = start.arguments.first().unwrap_or(&start.path);
    let (program, argv) = loaded(&root, &conf, &real, name, start.arguments.get(1..).unwrap_or_default());
    let errno = sys::execute(&program, &argv, &start.environment);
    let what = format!("cannot start `{}` with `{}`: {errno}", shown(&real), shown(&program));
    Err(Fault::new(what, "make the release again: its ELF loader is missing or for another machine"))
}

/// Searches `directory` and its parents for the root of the release. Returns it with the settings of the current
/// version.
fn release(directory: &[u8]) -> Result<(Bytes, Conf), Fault> {
    let mut root = directory.to_vec();
    for _ in 0..LEVELS {
        if let Some(text) = files::read_optional(&join(&[&root, b"/releases/start_erl.data"]))? {
            let (_, vsn) = versions(&text)?;
            let path = join(&[&root, b"/releases/", &vsn, b"/start.conf"]);
            let conf = Conf::parse(&path, &files::need(&path)?)?;
            return Ok((root, conf));
        }
        root.extend_from_slice(b"/..");
    }
    let what = format!("cannot find the release of `{}`", shown(directory));
    Err(Fault::new(what, "leave the program where the release was unpacked"))
}

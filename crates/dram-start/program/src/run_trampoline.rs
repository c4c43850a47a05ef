//! Runs the trampoline of a portable release: the program was called by a link, and the real file lies in `.elf` beside
//! it.

use alloc::format;

use dram_start::byte_string::{ByteString, concat, file_name, parent_path};
use dram_start::error::{StartError, printable};
use dram_start::release::parse_start_erl_data;
use dram_start::start_conf::StartConf;
use dram_start::trampoline::{REAL_DIR, loader_command};

use crate::files;
use crate::sys::{self, StartArguments};

/// The most directories between a program and the release's root.
const MAX_LEVELS: usize = 8;

/// Executes the real program if this program was called by such a link. Returns otherwise.
pub(crate) fn execute_if_trampoline(start: &StartArguments) -> Result<(), StartError> {
    let directory = parent_path(&start.path);
    let real = concat(&[directory, b"/", REAL_DIR, b"/", file_name(&start.path)]);
    if start.path.is_empty() || !sys::can_access(&real, 0) {
        return Ok(());
    }
    let (root, conf) = find_release_root(directory)?;
    let name = start.arguments.first().unwrap_or(&start.path);
    let (program, argv) = loader_command(&root, &conf, &real, name, start.arguments.get(1..).unwrap_or_default());
    let errno = sys::execute(&program, &argv, &start.environment);
    let what = format!("cannot start `{}` with `{}`: {errno}", printable(&real), printable(&program));
    Err(StartError::new(what, "make the release again: its ELF loader is missing or for another machine"))
}

/// Searches `directory` and its parents for the root of the release. Returns it with the settings of the current
/// version.
fn find_release_root(directory: &[u8]) -> Result<(ByteString, StartConf), StartError> {
    let mut root = directory.to_vec();
    for _ in 0..MAX_LEVELS {
        if let Some(text) = files::read_optional(&concat(&[&root, b"/releases/start_erl.data"]))? {
            let (_, vsn) = parse_start_erl_data(&text)?;
            let path = concat(&[&root, b"/releases/", &vsn, b"/start.conf"]);
            let conf = StartConf::parse(&path, &files::read_required(&path)?)?;
            return Ok((root, conf));
        }
        root.extend_from_slice(b"/..");
    }
    let what = format!("cannot find the release of `{}`", printable(directory));
    Err(StartError::new(what, "leave the program where the release was unpacked"))
}

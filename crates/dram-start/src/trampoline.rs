//! Trampolines: programs of a portable release, which are started by the release's own ELF loader at any path.
//!
//! The emulator executes `erl_child_setup`, `inet_gethost` and others by their paths, and an ELF file names its loader
//! by an absolute path. So in a portable release `DIR/PROGRAM` is a symbolic link to `bin/NAME`, and the real file is
//! `DIR/.elf/PROGRAM`. Called by the link, the start program searches `DIR` and at most eight parents for the root of
//! the release, reads `loader` and `library_path` in its `start.conf`, and executes the loader with the real file.
//! `beam.smp` needs no link: only the start program starts it, from `.elf` if it exists there.

use alloc::vec;
use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat, file_name};
use crate::start_conf::StartConf;

/// The directory of the real files, beside the links.
pub const REAL_DIR: &[u8] = b".elf";

/// The command that runs `program` with the release's loader: the file to execute, and its arguments.
///
/// `name` is the `argv[0]` of the program.
#[must_use]
pub fn loader_command(
    root: &[u8],
    conf: &StartConf,
    program: &[u8],
    name: &[u8],
    rest: &[ByteString],
) -> (ByteString, Vec<ByteString>) {
    let Some(loader) = &conf.loader else {
        let mut argv = vec![name.to_vec()];
        argv.extend_from_slice(rest);
        return (program.to_vec(), argv);
    };
    let loader = concat(&[root, b"/", loader]);
    let mut argv = vec![loader.clone()];
    // The loader of musl has no cache, and no such option.
    if !file_name(&loader).starts_with(b"ld-musl") {
        argv.push(b"--inhibit-cache".to_vec());
    }
    if !conf.library_path.is_empty() {
        let parts: Vec<ByteString> =
            conf.library_path.split(|b| *b == b':').map(|part| concat(&[root, b"/", part])).collect();
        argv.extend([b"--library-path".to_vec(), parts.join(b":".as_slice())]);
    }
    argv.extend([b"--argv0".to_vec(), name.to_vec(), program.to_vec()]);
    argv.extend_from_slice(rest);
    (loader, argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_a_portable_release_is_run_by_its_loader() {
        let conf = StartConf::parse(b"c", b"loader = lib64/ld.so\nlibrary_path = a:b").unwrap();
        let (file, argv) = loader_command(b"/r", &conf, b"/r/x/.elf/epmd", b"epmd", &[b"-daemon".to_vec()]);
        assert_eq!(file, b"/r/lib64/ld.so");
        let shown = argv.join(b" ".as_slice());
        let expected = "/r/lib64/ld.so --inhibit-cache --library-path /r/a:/r/b --argv0 epmd /r/x/.elf/epmd -daemon";
        assert_eq!(shown, expected.as_bytes());
    }

    #[test]
    fn without_a_loader_a_program_is_executed_directly() {
        let (file, argv) = loader_command(b"/r", &StartConf::default(), b"/r/x", b"n", &[]);
        assert_eq!((file, argv), (b"/r/x".to_vec(), vec![b"n".to_vec()]));
    }
}

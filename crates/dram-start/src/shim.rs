//! Programs of a portable release: started by the release's own ELF loader, wherever the release lies.
//!
//! The emulator executes `erl_child_setup`, `inet_gethost` and the like by their paths, and an ELF file names its loader
//! by an absolute path. So in such a release `DIR/PROGRAM` is a symbolic link to `bin/NAME`, and the real file is
//! `DIR/.elf/PROGRAM`. Called by the link, the start program goes up from `DIR`, at most eight directories, to the root
//! of the release, reads `loader` and `library_path` in its `start.conf`, and executes the loader with the real file.
//! `beam.smp` needs no link: it is only ever started by the start program, from `.elf` if it is there.

use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{Bytes, file_name, join};
use crate::conf::Conf;

/// The directory beside a program's link that holds the real files.
pub const REAL: &[u8] = b".elf";

/// The command that runs `program` with the release's loader: the file to execute, and its arguments.
///
/// `name` is what the program is to see as its own name.
#[must_use]
pub fn loaded(root: &[u8], conf: &Conf, program: &[u8], name: &[u8], rest: &[Bytes]) -> (Bytes, Vec<Bytes>) {
    let Some(loader) = &conf.loader else {
        let mut argv = vec![name.to_vec()];
        argv.extend_from_slice(rest);
        return (program.to_vec(), argv);
    };
    let loader = join(&[root, b"/", loader]);
    let mut argv = vec![loader.clone()];
    // The loader of musl has no cache, and no word for that.
    if !file_name(&loader).starts_with(b"ld-musl") {
        argv.push(b"--inhibit-cache".to_vec());
    }
    if !conf.library_path.is_empty() {
        let parts: Vec<Bytes> = conf.library_path.split(|b| *b == b':').map(|part| join(&[root, b"/", part])).collect();
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
    fn a_program_is_run_by_the_releases_loader() {
        let conf = Conf::parse(b"c", b"loader = lib64/ld.so\nlibrary_path = a:b").unwrap();
        let (file, argv) = loaded(b"/r", &conf, b"/r/x/.elf/epmd", b"epmd", &[b"-daemon".to_vec()]);
        assert_eq!(file, b"/r/lib64/ld.so");
        let shown = argv.join(b" ".as_slice());
        let expected = "/r/lib64/ld.so --inhibit-cache --library-path /r/a:/r/b --argv0 epmd /r/x/.elf/epmd -daemon";
        assert_eq!(shown, expected.as_bytes());
    }

    #[test]
    fn without_a_loader_it_is_run_as_it_is() {
        let (file, argv) = loaded(b"/r", &Conf::default(), b"/r/x", b"n", &[]);
        assert_eq!((file, argv), (b"/r/x".to_vec(), vec![b"n".to_vec()]));
    }
}

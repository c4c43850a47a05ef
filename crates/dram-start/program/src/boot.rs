//! From settings to a running emulator.

use alloc::format;

use dram_start::bytes::{Bytes, join};
use dram_start::environment::Environment;
use dram_start::erlexec::{Place, search_path};
use dram_start::fault::{Fault, shown};
use dram_start::launch::{Purpose, Surroundings, complete, emulator, line};
use dram_start::release::Release;

use crate::{files, sys};

pub(crate) fn start(release: &Release, purpose: &Purpose, mut env: Environment) -> Result<u8, Fault> {
    let home = &release.home;
    let around = Surroundings {
        terminal: sys::is_terminal(1) && sys::is_terminal(2),
        config: Some(release.sys_config.clone()),
        ..Surroundings::default()
    };
    let line = line(release, purpose, &around, &env);
    let file = sys::may(&release.vm_args, 0).then_some(release.vm_args.as_slice());
    let arguments = complete(release, line, file, &env, &mut files::need)?;
    let naming = release.naming(&arguments);
    let place = Place { root: home.root.clone(), bin: home.bin(), progname: b"erl".to_vec() };
    let emulator = emulator(&arguments, Some(&naming), None, &place, &env)?;
    env.set(b"ROOTDIR", &place.root);
    env.set(b"BINDIR", &place.bin);
    env.set(b"EMU", b"beam");
    env.set(b"PROGNAME", &place.progname);
    let path = search_path(env.get("PATH"), &place);
    env.set(b"PATH", &path);
    for (name, value) in &emulator.env {
        env.set(name, value);
    }
    let program = join(&[&place.bin, b"/", &emulator.file]);
    let mut argv = alloc::vec![program.clone()];
    argv.extend(emulator.arguments.iter().map(Bytes::clone));
    let errno = sys::execute(&program, &argv, &env.strings());
    Err(Fault::new(format!("cannot start `{}`: {errno}", shown(&program)), "make the release again: its emulator is missing or for another machine"))
}

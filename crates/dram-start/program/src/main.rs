//! The start program of a release: `bin/NAME`. It acts; what it decides is in `dram-start`.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod errno;
mod files;
mod home;
mod sys;

use alloc::format;

use dram_start::bytes::{Bytes, join};
use dram_start::conf::Conf;
use dram_start::environment::Environment;
use dram_start::fault::Fault;
use dram_start::launch::Purpose;
use dram_start::release::Release;
use sys::Start;

pub(crate) fn main(start: Start) -> u8 {
    match run(&start) {
        Ok(code) => code,
        Err(fault) => {
            let _ = sys::write_all(2, format!("{fault}\n").as_bytes());
            fault.code
        }
    }
}

fn run(start: &Start) -> Result<u8, Fault> {
    let mut env = Environment::from_strings(&start.environment);
    let home = home::find(start, &env)?;
    let path = join(&[&home.version_dir(), b"/start.conf"]);
    let conf = Conf::parse(&path, &files::read_optional(&path)?.unwrap_or_default())?;
    let command: Bytes = start.arguments.get(1).cloned().unwrap_or_default();
    home.announce(&conf, &command, &mut env);
    let release = Release::settle(home, conf, &mut env)?;
    boot::start(&release, &Purpose::Run, env)
}

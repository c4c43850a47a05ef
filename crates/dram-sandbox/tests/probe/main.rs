//! Runs the jail described by a JSON file and ends with the exit code of its command. The tests use it
//! as a caller that can be killed, and as a caller without privileges.

use dram_sandbox::{Jail, JailStdio};
use std::process::{ExitCode, Stdio};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "probe: {error}");
            ExitCode::from(99)
        }
    }
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    dram_sandbox::enter_user_namespace()?;
    let path = std::env::args_os().nth(1).ok_or("no jail")?;
    let jail: Jail = serde_json::from_slice(&std::fs::read(path)?)?;
    let io = JailStdio::Streams { stdin: Stdio::null(), stdout: Stdio::inherit(), stderr: Stdio::inherit() };
    let mut running = jail.spawn(io)?;
    Ok(u8::try_from(running.wait()?.code())?)
}

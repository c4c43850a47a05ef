//! Looks up the program in the image and executes it; a failure is explained precisely.

use crate::error::{SandboxError, lossy_text};
use crate::jail::Jail;
use crate::prelude::*;
use crate::sys;
use alloc::ffi::CString;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, open};
use rustix::io::Errno;

/// The directories that are searched when the environment has no `PATH`: Docker's default.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The number of bytes of a program that are read to find its interpreter. The kernel reads 256 bytes of a script;
/// linkers put an ELF file's program headers and the interpreter's name first.
const HEADER_SIZE: usize = 4096;

/// Executes the command. Returns only if that failed.
pub(crate) fn execute_command(jail: &Jail) -> SandboxError {
    let program = jail.argv.first().map_or(b"".as_slice(), Vec::as_slice);
    let (Ok(argv), Ok(env)) = (to_c_strings(&jail.argv), to_c_strings(&jail.env)) else {
        return SandboxError::Description { what: "a word contains a NUL byte".to_owned() };
    };
    let mut refused = None;
    for candidate in program_candidates(jail, program) {
        let Ok(program) = CString::new(candidate.as_slice()) else { continue };
        let error = sys::execve(&program, &argv, &env);
        match error {
            Errno::NOENT | Errno::NOTDIR if !exists(&candidate) => {}
            // As in a shell, another directory may have a program that can be executed.
            Errno::ACCESS => {
                refused = Some(SandboxError::NotExecutable { program: lossy_text(&candidate), source: error.into() });
            }
            _ => return explain_exec_error(&candidate, error),
        }
    }
    refused.unwrap_or_else(|| SandboxError::CommandNotFound { program: lossy_text(program) })
}

fn to_c_strings(list: &[Vec<u8>]) -> Result<Vec<CString>, alloc::ffi::NulError> {
    list.iter().map(|word| CString::new(word.as_slice())).collect()
}

/// The paths at which the command may be. An empty entry in `PATH` is the working directory.
fn program_candidates(jail: &Jail, program: &[u8]) -> Vec<Vec<u8>> {
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = jail.env_value(b"PATH").unwrap_or(DEFAULT_PATH);
    let join = |directory: &[u8]| {
        let directory = if directory.is_empty() { b"." } else { directory };
        [directory, b"/", program].concat()
    };
    path.split(|byte| *byte == b':').map(join).collect()
}

fn exists(path: &[u8]) -> bool {
    accessat(CWD, path, Access::EXISTS, AtFlags::empty()).is_ok()
}

/// The error for a program that exists. "No such file" then refers to its interpreter.
fn explain_exec_error(program: &[u8], error: Errno) -> SandboxError {
    if error == Errno::NOENT
        && let Some(interpreter) = read_header(program).ok().and_then(|start| program_interpreter(&start))
    {
        return SandboxError::MissingInterpreter {
            program: lossy_text(program),
            interpreter: lossy_text(&interpreter),
        };
    }
    if error == Errno::NOEXEC
        && let Some(machine) = foreign_machine(program)
    {
        let own = OWN_MACHINE.1.to_owned();
        return SandboxError::ForeignProgram { program: lossy_text(program), machine, own };
    }
    SandboxError::NotExecutable { program: lossy_text(program), source: error.into() }
}

/// The machine number of this program's own ELF file (`e_machine`), and its Go name.
const OWN_MACHINE: (u64, &str) = if cfg!(target_arch = "aarch64") { (183, "arm64") } else { (62, "amd64") };

/// The processor of a program, or of its interpreter, if it is not that of this machine.
fn foreign_machine(program: &[u8]) -> Option<String> {
    let mut start = read_header(program).ok()?;
    if start.starts_with(b"#!") {
        start = read_header(&program_interpreter(&start)?).ok()?;
    }
    let machine = elf_machine(&start).filter(|machine| *machine != OWN_MACHINE.0)?;
    let names = [
        (3, "386"),
        (22, "s390x"),
        (21, "ppc64"),
        (40, "arm"),
        (62, "amd64"),
        (183, "arm64"),
        (243, "riscv64"),
        (258, "loong64"),
        (8, "mips"),
    ];
    let known = names.iter().find(|(number, _)| *number == machine);
    Some(known.map_or_else(|| format!("processor number {machine}"), |(_, name)| (*name).to_owned()))
}

/// The machine number of an ELF file.
fn elf_machine(start: &[u8]) -> Option<u64> {
    start.strip_prefix(b"\x7fELF")?;
    match start.get(5)? {
        // A data encoding of 2 is big-endian.
        2 => start.get(18..20).map(|bytes| u64::from(bytes[0]) << 8 | u64::from(bytes[1])),
        _ => read_little_endian(start, 18, 2),
    }
}

/// Reads the first bytes of a regular file. It does not block on a pipe with the program's name.
fn read_header(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut start = vec![0; HEADER_SIZE];
    let length = rustix::io::read(&file, &mut start)?;
    start.truncate(length);
    Ok(start)
}

/// Returns the interpreter that a program names in its `#!` line or its ELF header; `start` is its first 4 KiB.
///
/// Follows `execve(2)`; of ELF files, 64-bit little-endian ones are read.
pub fn program_interpreter(start: &[u8]) -> Option<Vec<u8>> {
    match start.strip_prefix(b"#!") {
        Some(line) => {
            let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
            let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t' | 0)).unwrap_or(line.len());
            // A carriage return is part of the name, and most often the cause of the failure: make it visible.
            line.get(..end).map(|name| String::from_utf8_lossy(name).replace('\r', "\\r").into_bytes())
        }
        None => elf_interpreter(start),
    }
}

/// The path in the `PT_INTERP` segment of a 64-bit little-endian ELF file.
fn elf_interpreter(start: &[u8]) -> Option<Vec<u8>> {
    const CLASS_64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
    const PT_INTERP: u64 = 3;
    start.strip_prefix(CLASS_64_LITTLE)?;
    let (table, size, count) =
        (read_little_endian(start, 32, 8)?, read_little_endian(start, 54, 2)?, read_little_endian(start, 56, 2)?);
    for index in 0..count {
        let header = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        if read_little_endian(start, header, 4)? == PT_INTERP {
            let from = usize::try_from(read_little_endian(start, header.checked_add(8)?, 8)?).ok()?;
            let length = usize::try_from(read_little_endian(start, header.checked_add(32)?, 8)?).ok()?;
            let path = start.get(from..from.checked_add(length)?)?;
            return path.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
        }
    }
    None
}

/// Reads a little-endian number of `size` bytes.
fn read_little_endian(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreter_of_a_script_is_read_from_its_first_line() {
        assert_eq!(program_interpreter(b"#! /usr/bin/env python\nx"), Some(b"/usr/bin/env".to_vec()));
        assert_eq!(program_interpreter(b"#!/bin/sh\r\n"), Some(b"/bin/sh\\r".to_vec()));
        assert_eq!(program_interpreter(b"echo"), None);
    }

    #[test]
    fn machine_of_an_elf_file_is_read_in_both_byte_orders() {
        assert_eq!(elf_machine(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0"), Some(183));
        assert_eq!(elf_machine(b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16"), Some(22));
        assert_eq!(elf_machine(b"\x7fELF\x02\x01"), None);
        assert_eq!(elf_machine(b"#!/bin/sh"), None);
    }

    #[test]
    fn interpreter_of_an_elf_file_is_its_pt_interp() {
        let mut file = vec![0u8; 176];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[32], file[54], file[56]) = (64, 56, 1);
        (file[64], file[72], file[96]) = (3, 120, 12);
        file[120..131].copy_from_slice(b"/lib/ld.so\0");
        assert_eq!(program_interpreter(&file), Some(b"/lib/ld.so".to_vec()));
        for length in 0..file.len() {
            let _ = program_interpreter(&file[..length]);
        }
        file[72] = 0xff;
        assert_eq!(program_interpreter(&file), None);
    }
}

//! Translates the arguments of `erl` into those of the emulator, as `erlexec` does.
//!
//! Specification: `erts/etc/common/erlexec.c` of OTP 23 to 28. First the files named by `-args_file` and the variables
//! `ERL_AFLAGS`, `ERL_FLAGS` and `ERL_ZFLAGS` are inserted ([`expand_arguments`]); then the flags of the emulator are
//! moved before those of the system ([`translate_arguments`]).

use alloc::format;
use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat};
use crate::emulator_flags::{FlagArity, flag_arity};
use crate::environment::EnvironmentVariables;
use crate::error::{StartError, printable};

/// The deepest nesting of `-args_file`.
const MAX_NESTING: usize = 16;
/// The most arguments; Linux takes no more than some hundred thousand.
const MAX_ARGUMENTS: usize = 100_000;

/// A function that reads a file named by `-args_file`.
pub type ReadArgsFile<'a> = &'a mut dyn FnMut(&[u8]) -> Result<ByteString, StartError>;

/// Splits a text into words: white space separates, quotes and backslashes quote.
///
/// Inside quotes a backslash is literal. A quote that is not closed ends with the text. If `comments` is true, `#`
/// begins a comment to the end of the line, also in the middle of a word, which it ends.
#[must_use]
pub fn split_arguments(text: &[u8], comments: bool) -> Vec<ByteString> {
    // A C string ends at its first NUL.
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        while let Some(byte) = text.get(at) {
            match byte {
                b'\n' | 0x0c | b'\r' | b'\t' | 0x0b | b' ' => at += 1,
                b'#' if comments => at += text[at..].iter().take_while(|b| **b != b'\n').count(),
                _ => break,
            }
        }
        if at >= text.len() {
            return found;
        }
        let (word, next) = read_word(text, at, comments);
        found.push(word);
        at = next;
    }
}

fn read_word(text: &[u8], mut at: usize, comments: bool) -> (ByteString, usize) {
    let mut word = Vec::new();
    let mut quote = None;
    while let Some(byte) = text.get(at).copied() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => word.push(byte),
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'\\') => {
                at += 1;
                word.extend(text.get(at));
            }
            (None, b'\n' | 0x0c | b'\r' | b'\t' | 0x0b | b' ') => break,
            (None, b'#') if comments => break,
            (None, _) => word.push(byte),
        }
        at += 1;
    }
    (word, at)
}

/// Expands arguments to one list: `-args_file`s and variables are inserted, arguments after `-extra` are moved to the
/// end.
///
/// `otp` is the number of the OTP release, if it is known, for `ERL_OTP<number>_FLAGS`.
///
/// # Errors
/// Fails if a file cannot be read, or if files include each other in a cycle.
pub fn expand_arguments(
    line: &[ByteString],
    env: &EnvironmentVariables,
    otp: Option<&str>,
    read: ReadArgsFile<'_>,
) -> Result<Vec<ByteString>, StartError> {
    let variable = |name: &str| end_with_separator(split_arguments(env.get(name).unwrap_or_default(), false));
    let before = [otp.map(|otp| variable(&format!("ERL_OTP{otp}_FLAGS"))).unwrap_or_default(), variable("ERL_AFLAGS")];
    let after = [variable("ERL_FLAGS"), variable("ERL_ZFLAGS")];
    let own = line.iter().take_while(|argument| argument.as_slice() != b"-extra");
    if before.iter().chain(&after).all(Vec::is_empty) && own.clone().all(|own| own.as_slice() != b"-args_file") {
        return Ok(line.to_vec());
    }
    let mut all = Vec::new();
    let mut extra = Vec::new();
    for list in &before {
        insert_arguments(list, &mut all, &mut extra, read, 0)?;
    }
    if !line.is_empty() {
        insert_arguments(line, &mut all, &mut extra, read, 0)?;
        all.push(b"--".to_vec());
    }
    for list in &after {
        insert_arguments(list, &mut all, &mut extra, read, 0)?;
    }
    if !extra.is_empty() {
        all.push(b"-extra".to_vec());
        all.append(&mut extra);
    }
    Ok(all)
}

/// Ends the words of one source with `--`, so that the values of a flag end there too.
fn end_with_separator(mut words: Vec<ByteString>) -> Vec<ByteString> {
    if !words.is_empty() {
        words.push(b"--".to_vec());
    }
    words
}

fn insert_arguments(
    list: &[ByteString],
    all: &mut Vec<ByteString>,
    extra: &mut Vec<ByteString>,
    read: ReadArgsFile<'_>,
    depth: usize,
) -> Result<(), StartError> {
    let mut rest = list.iter();
    while let Some(argument) = rest.next() {
        match argument.as_slice() {
            b"-args_file" => {
                let path = rest.next().ok_or_else(|| missing_value_error(argument))?;
                if depth == MAX_NESTING || all.len() > MAX_ARGUMENTS {
                    let what = format!("cannot follow `-args_file {}`: too many files inside files", printable(path));
                    return Err(StartError::new(what, "look for a file that names itself"));
                }
                insert_arguments(
                    &end_with_separator(split_arguments(&read(path)?, true)),
                    all,
                    extra,
                    read,
                    depth + 1,
                )?;
            }
            b"-extra" => {
                extra.extend(rest.cloned());
                return Ok(());
            }
            _ => all.push(argument.clone()),
        }
    }
    Ok(())
}

fn missing_value_error(flag: &[u8]) -> StartError {
    StartError::new(
        format!("cannot read the flag `{}`: its value is missing", printable(flag)),
        "give the value after the flag",
    )
}

/// The paths of the emulator, which `erlexec` takes from its environment.
#[derive(Clone, Debug)]
pub struct EmulatorPaths {
    /// `ROOTDIR`.
    pub root: ByteString,
    /// `BINDIR`.
    pub bin: ByteString,
    /// `PROGNAME`.
    pub progname: ByteString,
}

/// The command line and the requirements of an emulator that is not started yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmulatorCommand {
    /// The name of its file below `BINDIR`.
    pub file: ByteString,
    /// The arguments after `argv[0]`.
    pub arguments: Vec<ByteString>,
    /// The variables of `-env NAME VALUE`, in order.
    pub env: Vec<(ByteString, ByteString)>,
    /// If true, the node has a name from its start.
    pub has_node_name: bool,
    /// If true, EPMD must be started for it.
    pub needs_epmd: bool,
    /// The command that starts EPMD, if it is not the default one.
    pub epmd_command: Option<ByteString>,
    /// If true, `-detached` was given.
    pub detached: bool,
}

/// Splits `arguments`, as [`expand_arguments`] returns them, into flags of the emulator and arguments of the system.
///
/// # Errors
/// Fails for a flag without its value, or a flag that a release does not support.
pub fn translate_arguments(
    arguments: &[ByteString],
    place: &EmulatorPaths,
    env: &EnvironmentVariables,
) -> Result<EmulatorCommand, StartError> {
    let mut found = EmulatorCommand { file: emulator_file(arguments)?, ..EmulatorCommand::default() };
    let mut flags: Vec<ByteString> = Vec::new();
    let mut rest: Vec<ByteString> = Vec::new();
    for (name, flag) in [("HOME", "-home"), ("ERL_EPMD_PORT", "-epmd_port")] {
        if let Some(value) = env.get(name) {
            rest.extend([flag.as_bytes().to_vec(), value.to_vec()]);
        }
    }
    rest.push(b"--".to_vec());
    let mut no_epmd = false;
    let mut list = arguments.iter().peekable();
    while let Some(argument) = list.next() {
        if let Some(name) = argument.strip_prefix(b"+") {
            flags.push(concat(&[b"-", name]));
            match flag_arity(name).ok_or_else(|| missing_value_error(argument))? {
                FlagArity::FlagOnly => {}
                FlagArity::AnyArgument => flags.push(list.next().ok_or_else(|| missing_value_error(argument))?.clone()),
                FlagArity::NonFlagArgument => {
                    let value = list.next().filter(|value| !matches!(value.first(), Some(b'-' | b'+')));
                    flags.push(value.ok_or_else(|| missing_value_error(argument))?.clone());
                }
                FlagArity::OneOf(values) => {
                    if let Some(value) = list.next_if(|next| values.contains(&next.as_slice())) {
                        flags.push(value.clone());
                    }
                }
            }
            continue;
        }
        let mut value = || list.next().cloned().ok_or_else(|| missing_value_error(argument));
        match argument.as_slice() {
            b"-extra" => {
                rest.push(argument.clone());
                rest.extend(list.by_ref().cloned());
            }
            b"-detached" => {
                found.detached = true;
                rest.extend([b"-noshell".to_vec(), b"-noinput".to_vec()]);
            }
            b"-noinput" => rest.extend([b"-noshell".to_vec(), b"-noinput".to_vec()]),
            b"-env" => {
                let name = value()?;
                found.env.push((name, value()?));
            }
            b"-epmd" => found.epmd_command = Some(value()?),
            b"-name" | b"-sname" => {
                found.has_node_name = true;
                rest.extend([argument.clone(), value()?]);
            }
            b"-no_epmd" => {
                no_epmd = true;
                rest.push(argument.clone());
            }
            b"-start_epmd" => {
                let choice = value()?;
                no_epmd = match choice.as_slice() {
                    b"true" => false,
                    b"false" => true,
                    other => {
                        let what = format!("cannot read `-start_epmd {}`", printable(other));
                        return Err(StartError::new(what, "write `-start_epmd true` or `-start_epmd false`"));
                    }
                };
                rest.extend([argument.clone(), choice]);
            }
            b"-version" => flags.push(b"-V".to_vec()),
            b"-emu_args" | b"-emu_args_exit" | b"-emu_name_exit" | b"-emu_qouted_cmd_exit" | b"-keep_window" => {}
            b"-compile" | b"-make" | b"-man" => {
                let what = format!("cannot start a release with `{}`", printable(argument));
                return Err(StartError::new(what, "use `erl` of an Erlang installation for this"));
            }
            _ => rest.push(argument.clone()),
        }
    }
    found.needs_epmd = found.has_node_name && !no_epmd;
    found.arguments = flags;
    let head: [&[u8]; 8] = [b"--", b"-root", &place.root, b"-bindir", &place.bin, b"-progname", &place.progname, b"--"];
    found.arguments.extend(head.iter().map(|part| part.to_vec()));
    found.arguments.append(&mut rest);
    Ok(found)
}

/// The file of the emulator: `beam.smp`, or that of another emulator type or flavor.
fn emulator_file(arguments: &[ByteString]) -> Result<ByteString, StartError> {
    let mut kind = Vec::new();
    let mut flavor = Vec::new();
    let mut list = arguments.iter().take_while(|argument| argument.as_slice() != b"-extra");
    while let Some(argument) = list.next() {
        match argument.as_slice() {
            b"-emu_type" => kind.clone_from(list.next().ok_or_else(|| missing_value_error(argument))?),
            b"-emu_flavor" => flavor.clone_from(list.next().ok_or_else(|| missing_value_error(argument))?),
            b"-smpdisable" => return Err(smp_disabled_error()),
            b"-smp" if list.clone().next().is_some_and(|next| next.as_slice() == b"disable") => {
                return Err(smp_disabled_error());
            }
            _ => {}
        }
    }
    let part = |value: &[u8], usual: &[u8]| match value.is_empty() || value == usual {
        true => Vec::new(),
        false => concat(&[b".", value]),
    };
    Ok(concat(&[b"beam", &part(&kind, b"opt"), &part(&flavor, b"jit"), b".smp"]))
}

fn smp_disabled_error() -> StartError {
    StartError::new("cannot start the emulator with `-smp disable`", "write `+S 1` instead")
}

/// The `PATH` of an emulator: its own directory first, and only once.
#[must_use]
pub fn search_path(old: Option<&[u8]>, place: &EmulatorPaths) -> ByteString {
    match old {
        None => concat(&[&place.bin, b":", &place.root, b"/bin:"]),
        Some(old) if crate::byte_string::find_bytes(old, &place.root).is_none() => {
            concat(&[&place.bin, b":", &place.root, b"/bin:", old])
        }
        Some(mut old) => {
            let own = concat(&[&place.bin, b":"]);
            let mut found = own.clone();
            while let Some(at) = crate::byte_string::find_bytes(old, &own) {
                found.extend_from_slice(&old[..at]);
                old = &old[at + own.len()..];
            }
            found.extend_from_slice(old);
            found
        }
    }
}

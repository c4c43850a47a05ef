//! `dram run`: runs a command in a new container.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dram_build::{BuildEvent, Image, LayerProvider, Snapshot, container, users};
use dram_image::ContainerConfig;
use dram_sandbox::{BindMount, BindSource, Jail, JailMount, JailStdio, RunningJail, SignalHandle, TerminalSize};
use dram_store::Store;
use rustix::termios::{OptionalActions, Termios, Winsize};

use super::{container_options, privilege, transfer};
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::Failure;
use crate::{report, signals};

/// Runs the command. Returns its exit code.
pub(crate) fn run(ambient: &AmbientContext, args: &cli::RunArgs) -> Result<ExitCode, Failure> {
    if let Some(lack) = ambient.missing_ability() {
        return Err(Failure::from(lack));
    }
    container_options::verify_ports(&args.publish, args.network)?;
    let host = ambient.host();
    let platform = transfer::parse_platform(args.platform.as_deref())?;
    let store = Store::open_writable(ambient.store()?)?;
    let image = transfer::ensure_image(&store, &args.image, args.pull, &platform)?;
    let network = match args.network {
        cli::NetworkMode::Host => dram_sandbox::JailNetwork::Host,
        cli::NetworkMode::None => dram_sandbox::JailNetwork::None,
    };
    let told = AtomicBool::new(false);
    let tell = |event| {
        if matches!(event, BuildEvent::Unpacking { .. }) && !told.swap(true, Ordering::Relaxed) {
            report::print_note(&format!("unpacking `{}` for the first time", args.image));
        }
    };
    let layers = LayerProvider::new(&store).with_events(&tell).with_image(&args.image, &image);
    let snapshot = image.snapshot_to_run(&store);
    let user = find_user(&layers, &snapshot, &image, args)?;
    let (mut jail, place) = container::new_jail(&layers, &snapshot, network, &host, user.ids)?;
    fill_jail(&mut jail, &user.home, &image, args)?;
    privilege::note_user(ambient, args.user.as_deref().unwrap_or(&image.config.value().config.user));
    container::make_dir(&layers, &snapshot, &place, &jail.cwd, ambient::wall_clock())?;
    let code = run_jail(&mut jail, args.tty, args.interactive)?;
    drop(place);
    Ok(code)
}

/// Runs the jail's command with pipes to the standard streams of this process, or with a terminal of its own. Returns its
/// exit code.
///
/// The streams of this process themselves are not for the command: through any of them it could read the keyboard of the
/// terminal, or change the mode of the user's file.
pub(super) fn run_jail(jail: &mut Jail, tty: bool, interactive: bool) -> Result<ExitCode, Failure> {
    if tty {
        jail.terminal = Some(own_terminal_size().unwrap_or_default());
        return in_terminal(jail);
    }
    let stdin = if interactive { Stdio::piped() } else { Stdio::null() };
    let io = JailStdio::Streams { stdin, stdout: Stdio::piped(), stderr: Stdio::piped() };
    let signals = signals::catch_signals()?;
    let mut running = jail.spawn(io)?;
    let (handle, insistence) = (running.signal_handle(), SignalEscalation::default());
    signals.forward(move |signal| insistence.forward(signal, &handle))?;
    if let Some(to_inside) = running.take_stdin() {
        // This thread may wait for input forever; the process does not join it.
        thread::spawn(move || copy_stream(io::stdin(), to_inside));
    }
    let (stdout, stderr) = (running.take_stdout(), running.take_stderr());
    let stdout = stdout.map(|from| thread::spawn(move || copy_stream(from, io::stdout())));
    let stderr = stderr.map(|from| thread::spawn(move || copy_stream(from, io::stderr())));
    let code = running.wait()?.code();
    for copied in [stdout, stderr].into_iter().flatten() {
        // The thread has nothing that could panic. All processes of the jail have ended, so it ends too.
        if let Ok(Err(error)) = copied.join()
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(Failure::work("cannot write the output of the command").because(&error));
        }
    }
    Ok(exit_code(code))
}

/// Forwards signals. The kernel does not deliver a signal to the first process of a pid namespace that has no handler
/// for it; so a second request to end kills that process.
#[derive(Default)]
struct SignalEscalation(std::cell::Cell<bool>);

impl SignalEscalation {
    fn forward(&self, signal: i32, to: &SignalHandle) {
        let asks_to_end = matches!(signal, signal_hook::consts::SIGINT | signal_hook::consts::SIGTERM);
        if asks_to_end && self.0.replace(true) {
            to.kill();
        } else {
            to.signal(signal);
        }
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

/// The user of the command, by the files of the image.
fn find_user(
    layers: &LayerProvider<'_>,
    snapshot: &Snapshot,
    image: &Image,
    args: &cli::RunArgs,
) -> Result<users::ImageUser, Failure> {
    let text = args.user.as_deref().unwrap_or(&image.config.value().config.user);
    let user = users::resolve_user(&layers.view(snapshot)?, text);
    user.map_err(|error| Failure::work(format!("cannot run as `{text}`")).because(&error))
}

/// Fills in the jail's command, from the image's config and the command line.
fn fill_jail(jail: &mut Jail, home: &str, image: &Image, args: &cli::RunArgs) -> Result<(), Failure> {
    let config = &image.config.value().config;
    jail.argv = command_words(config, args)?;
    jail.env = container_environment(config, args, home)?;
    jail.cwd = working_directory(args.workdir.as_deref().unwrap_or(&config.working_dir))?;
    jail.limits.extend(container_options::parse_limits(&args.ulimit)?);
    if let Some(size) = container_options::parse_shm_size(args.shm_size.as_deref())? {
        jail.shm_size = size;
    }
    for text in &args.volume {
        jail.mounts.push(JailMount::Bind(parse_volume(text)?));
    }
    Ok(())
}

fn command_words(config: &ContainerConfig, args: &cli::RunArgs) -> Result<Vec<Vec<u8>>, Failure> {
    let own = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let mut words = match &args.entrypoint {
        Some(program) => vec![program.clone()],
        None => own(&config.entrypoint),
    };
    match args.command.is_empty() {
        true if args.entrypoint.is_none() => words.extend(own(&config.cmd)),
        true => {}
        false => words.extend(args.command.clone()),
    }
    if words.first().is_none_or(String::is_empty) {
        let failure = Failure::usage("the image says nothing to run");
        return Err(failure.help(format!("name a command: `dram run {} sh`", args.image)));
    }
    Ok(words.into_iter().map(String::into_bytes).collect())
}

fn container_environment(config: &ContainerConfig, args: &cli::RunArgs, home: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let mut all = config.clone();
    if all.env_value("HOME").is_none() {
        all.set_env("HOME", home);
    }
    if all.env_value("PATH").is_none() {
        all.set_env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    if args.tty && all.env_value("TERM").is_none() {
        all.set_env("TERM", "xterm");
    }
    for text in &args.env {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::usage(format!("`{text}` sets a variable without a name"))),
            Some((name, value)) => all.set_env(name, value),
            None => {
                if let Some(value) = ambient::env_var(text) {
                    all.set_env(text, &value);
                }
            }
        }
    }
    // Entries of a foreign image that are no environment variables are left out.
    let pairs = all.env.into_iter().filter(|pair| pair.contains('=') && !pair.contains('\0'));
    Ok(pairs.map(String::into_bytes).collect())
}

/// The working directory, absolute and without `..`, which stops at the root.
fn working_directory(text: &str) -> Result<Vec<u8>, Failure> {
    let path = dram_image::TreePath::clean(text.as_bytes())
        .map_err(|error| Failure::usage("cannot start in that directory").because(&error))?;
    Ok([b"/", path.as_bytes()].concat())
}

fn parse_volume(text: &str) -> Result<BindMount, Failure> {
    let usage = |what: &str| {
        Failure::usage(format!("`-v {text}`: {what}")).help("write it as SRC:DST or SRC:DST:ro, both absolute")
    };
    let mut parts = text.split(':');
    let (source, target) = match (parts.next(), parts.next()) {
        (Some(source), Some(target)) if !source.is_empty() => (source, target),
        (_, _) => return Err(usage("a volume is a path of this machine and one of the container")),
    };
    let read_only = match (parts.next(), parts.next()) {
        (None, _) | (Some("rw"), None) => false,
        (Some("ro"), None) => true,
        (Some(_), _) => return Err(usage("the only options are `ro` and `rw`")),
    };
    if !target.starts_with('/') {
        return Err(usage("the path in the container is not absolute"));
    }
    let source = std::fs::canonicalize(source).map_err(|error| {
        Failure::work(format!("`-v {text}`: no such file or directory: `{source}`")).because(&error)
    })?;
    Ok(BindMount { source: BindSource::Host(source.into()), target: target.as_bytes().to_vec(), read_only })
}

/// Connects the terminal of the jail with that of this process.
fn in_terminal(jail: &Jail) -> Result<ExitCode, Failure> {
    let signals = signals::catch_signals()?;
    let mut running = jail.spawn(JailStdio::Terminal)?;
    let outer = running.take_terminal().ok_or_else(|| Failure::work("the jail has no terminal"))?;
    let raw = RawModeGuard::enter()?;
    copy_window_size(&outer);
    let (handle, resized, insistence) = (running.signal_handle(), duplicate_fd(&outer)?, SignalEscalation::default());
    signals.forward(move |signal| match signal {
        signal_hook::consts::SIGWINCH => copy_window_size(&resized),
        signal => insistence.forward(signal, &handle),
    })?;
    let to_inside = File::from(duplicate_fd(&outer)?);
    // This thread may wait for a key forever; the process does not join it.
    thread::spawn(move || copy_stream(io::stdin(), to_inside));
    let from_inside = thread::spawn(move || copy_stream(File::from(outer), io::stdout()));
    let code = wait_for_exit(&mut running)?;
    let _ = from_inside.join();
    drop(raw);
    Ok(exit_code(code))
}

fn wait_for_exit(running: &mut RunningJail) -> Result<i32, Failure> {
    Ok(running.wait()?.code())
}

fn duplicate_fd(fd: &OwnedFd) -> Result<OwnedFd, Failure> {
    fd.try_clone().map_err(|error| Failure::work("cannot use the terminal").because(&error))
}

/// Copies until one side is closed. Returns the error of writing.
fn copy_stream(mut from: impl Read, mut to: impl io::Write) -> io::Result<()> {
    let mut buffer = [0; 64 << 10];
    loop {
        let got = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(got @ 1..) => got,
            // A terminal whose other end is closed gives an error at its end.
            Ok(0) | Err(_) => return Ok(()),
        };
        to.write_all(&buffer[..got])?;
        to.flush()?;
    }
}

/// Returns the size of the terminal of this process, which may be on any of its streams.
fn own_terminal_size() -> Option<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(io::stdin())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stdout()))
        .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()));
    size.ok().map(|size| TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

fn copy_window_size(to: &OwnedFd) {
    if let Some(TerminalSize { rows, columns }) = own_terminal_size() {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // Fails only when the command has closed its terminal.
        let _ = rustix::termios::tcsetwinsize(to, size);
    }
}

/// The raw mode of this process's terminal, until this value is dropped.
struct RawModeGuard(Option<Termios>);

impl RawModeGuard {
    fn enter() -> Result<RawModeGuard, Failure> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(RawModeGuard(None));
        }
        let fail = |error: rustix::io::Errno| Failure::work("cannot use the terminal").because(&io::Error::from(error));
        let before = rustix::termios::tcgetattr(stdin.as_fd()).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).map_err(fail)?;
        Ok(RawModeGuard(Some(before)))
    }
}

impl Drop for RawModeGuard {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
            let _ = io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_option_is_parsed_and_malformed_ones_refused() {
        let bind = parse_volume("/:/host:ro").unwrap();
        assert!(matches!(&bind.source, BindSource::Host(path) if path.as_bytes() == b"/"));
        assert_eq!((bind.target.as_slice(), bind.read_only), (&b"/host"[..], true));
        for text in ["/", ":/x", "/:x", "/:/x:z", "/missing-for-sure:/x", "/:/x:ro:rw"] {
            assert!(parse_volume(text).is_err(), "{text}");
        }
    }
}

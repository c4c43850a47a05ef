//! Keys of steps: each names all that can change the step's result. The patterns take every field apart without `..`,
//! so that a new field does not compile until somebody has decided about it.

use dram_dockerfile::{Copy, From, Mode, Run, Unpack, Workdir};
use dram_sandbox::Network;
use dram_store::StepKey;

use crate::Snapshot;

/// Raised when the meaning of a key or the result of a step changes: what was remembered before is then not found.
const GENERATION: &[u8] = b"1";

/// The key of a command in `below`.
pub(crate) fn run(step: &Run, below: &Snapshot, network: Network) -> StepKey {
    // What is only visible to the command, such as a proxy's address, must not change what it makes.
    let Run { argv, env, cwd, user, hidden_env: _, mounts: _, scripts: _, network: _, insecure: _ } = step;
    let network = match network {
        Network::Host => "host",
        Network::None => "none",
    };
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    StepKey::of([
        GENERATION,
        b"run",
        StepKey::of(argv.iter().map(String::as_bytes)).as_bytes(),
        StepKey::of(env.iter().map(String::as_bytes)).as_bytes(),
        cwd.as_bytes(),
        user.as_bytes(),
        network.as_bytes(),
        below.identity().as_bytes(),
    ])
}

/// The key of a copy into `below` of sources with the digest `content`.
pub(crate) fn copy(step: &Copy, below: &Snapshot, content: &StepKey) -> StepKey {
    copy_of(step, below, b"content", content)
}

/// The key of a copy into `below` from a snapshot that is `from`: found without looking at a single file.
pub(crate) fn copy_from(step: &Copy, below: &Snapshot, from: &StepKey) -> StepKey {
    let sources = StepKey::of(step.sources.iter().map(|source| source.text.as_bytes()));
    let from = StepKey::of([from.as_bytes(), sources.as_bytes()]);
    copy_of(step, below, b"snapshot", &from)
}

fn copy_of(step: &Copy, below: &Snapshot, how: &[u8], content: &StepKey) -> StepKey {
    // The sources' text and where they come from are in `content`, with what they lead to; spans are for messages.
    let Copy { from, sources: _, dest, chown, chmod, unpack, spans: _, .. } = step;
    let is_context = match from {
        From::Context | From::Named(_) | From::Scratch => "outside",
        From::Stage(_) => "stage",
    };
    let chmod = chmod.as_ref().map(Mode::name).unwrap_or_default();
    StepKey::of([
        GENERATION,
        b"copy",
        how,
        is_context.as_bytes(),
        dest.as_bytes(),
        chown.as_deref().unwrap_or_default().as_bytes(),
        chmod.as_bytes(),
        match unpack {
            Unpack::No => b"",
            Unpack::Local => b"unpack",
            Unpack::All => b"unpack all",
        },
        below.identity().as_bytes(),
        content.as_bytes(),
    ])
}

/// The key of making a working directory in `below`.
pub(crate) fn workdir(step: &Workdir, below: &Snapshot) -> StepKey {
    let Workdir { path, user } = step;
    StepKey::of([GENERATION, b"workdir", path.as_bytes(), user.as_bytes(), below.identity().as_bytes()])
}

//! Keys of steps: each names all that can change the step's result. The patterns take every field apart without `..`,
//! so that a new field does not compile until somebody has decided about it. A part gets the name that people know it
//! by: when it changes, that is what the build says.

use std::sync::Arc;

use dram_dockerfile::{Copy, From, Mode, Run, Unpack, Workdir};
use dram_sandbox::Network;
use dram_store::StepKey;

use crate::Snapshot;
use crate::content::Content;
use crate::parts::{Key, Name, Parts};

/// How results are made. A number is raised when the meaning of a key or the result of such a step changes: what was
/// remembered before is then not found.
const RUN: &str = "run 2";
const COPY: &str = "copy 2";
const WORKDIR: &str = "workdir 2";

/// The key of a command in `below`.
pub(crate) fn run(step: &Run, below: &Snapshot, network: Network) -> Arc<Key> {
    // What is only visible to the command, such as a proxy's address, must not change what it makes.
    let Run { argv, env, cwd, user, from_args, hidden_env: _, mounts: _, scripts: _, network: _, insecure: _ } = step;
    let network = match network {
        Network::Host => "host",
        Network::None => "none",
    };
    let mut parts = Parts::new(RUN).command(argv);
    for (name, value) in env {
        parts = parts.with(Name::Variable { name: name.clone(), is_arg: from_args.contains(name) }, value.as_bytes());
    }
    parts.setting("the working directory", cwd).setting("the user", user).setting("--network", network).on(below)
}

/// The key of a copy into `below` of sources that hold `content`.
pub(crate) fn copy(step: &Copy, below: &Snapshot, content: &Content) -> Arc<Key> {
    copy_of(step).files("", content).on(below)
}

/// The key of a copy into `below` from a snapshot that is `from`: found without looking at a single file.
pub(crate) fn copy_from(step: &Copy, below: &Snapshot, from: &StepKey) -> Arc<Key> {
    let sources = StepKey::of(step.sources.iter().map(|source| source.text.as_bytes()));
    let from = StepKey::of([from.as_bytes(), sources.as_bytes()]);
    copy_of(step).with(Name::Source(String::new()), from.as_bytes()).on(below)
}

fn copy_of(step: &Copy) -> Parts {
    // The sources' text and where they come from are in the files or the source, with what they lead to; spans are for
    // messages.
    let Copy { from, sources: _, dest, chown, chmod, unpack, spans: _, .. } = step;
    let from = match from {
        From::Context | From::Named(_) | From::Scratch => "outside",
        From::Stage(_) => "stage",
    };
    let unpack = match unpack {
        Unpack::No => "no",
        Unpack::Local => "local",
        Unpack::All => "all",
    };
    Parts::new(COPY)
        .setting("--from", from)
        .setting("the destination", dest)
        .setting("--chown", chown.as_deref().unwrap_or_default())
        .setting("--chmod", &chmod.as_ref().map(Mode::name).unwrap_or_default())
        .setting("--unpack", unpack)
}

/// The key of making a working directory in `below`.
pub(crate) fn workdir(step: &Workdir, below: &Snapshot) -> Arc<Key> {
    let Workdir { path, user } = step;
    Parts::new(WORKDIR).setting("the directory", path).setting("the user", user).on(below)
}

//! The fixtures of unit tests: recorded answers of the query scripts, and a project beside an Erlang/OTP installation
//! whose programs are empty files.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::consult::parse_one;
use dram_release::term::Term;

use crate::tree::{ReleaseEntry, ReleaseFileContent, ReleaseTree};

/// The answers that the query scripts gave for the projects in `tests/release`, without the inputs that they list.
const RECORDED_ANSWERS: [(&str, &str); 5] = [
    ("small", include_str!("../fixtures/small.term")),
    ("runtime", include_str!("../fixtures/runtime.term")),
    ("jobs", include_str!("../fixtures/jobs.term")),
    ("distillery", include_str!("../fixtures/distillery.term")),
    ("rebar", include_str!("../fixtures/rebar.term")),
];

/// A directory with a `project`, and with `otp` and `elixir` as far as a release needs them.
pub(crate) struct TestProject {
    dir: tempfile::TempDir,
}

impl TestProject {
    /// Creates the directory with OTP's and Elixir's applications, and without a file in the project.
    pub(crate) fn new() -> TestProject {
        let project = TestProject { dir: tempfile::tempdir().unwrap() };
        let needs = |names: &str| format!("{{applications,[{names}]}}");
        for (name, vsn, keys) in [
            ("kernel", "8.5.3", needs("")),
            ("stdlib", "4.2", needs("kernel")),
            ("sasl", "4.2", needs("kernel,stdlib")),
            ("compiler", "8.2.3", needs("kernel,stdlib")),
            ("crypto", "5.1.2", needs("kernel,stdlib")),
            ("runtime_tools", "1.19", needs("kernel,stdlib")),
        ] {
            project.write_app(&format!("otp/lib/{name}-{vsn}"), name, vsn, &keys);
        }
        for (name, on) in [("elixir", "kernel,stdlib,compiler"), ("iex", "kernel,stdlib,elixir"), ("logger", "elixir")]
        {
            project.write_app(&format!("elixir/lib/{name}"), name, "1.14.0", &needs(on));
        }
        for name in ["beam.smp", "erl_child_setup", "inet_gethost", "epmd", "heart"] {
            project.write(&format!("otp/erts-13.1.5/bin/{name}"), name);
            project.set_mode(&format!("otp/erts-13.1.5/bin/{name}"), 0o755);
        }
        project.write("otp/releases/start_erl.data", "13.1.5 25");
        fs::create_dir(project.path("project")).unwrap();
        project
    }

    /// Returns the path of `name` in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and makes the directories above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Makes a symbolic link, and the directories above it.
    pub(crate) fn link(&self, target: &str, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Sets the permission bits of a file.
    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes the application `name` without modules; `keys` are further keys of its specification.
    pub(crate) fn write_app(&self, dir: &str, name: &str, vsn: &str, keys: &str) {
        let fixed = format!("{{description,\"\"}},{{vsn,\"{vsn}\"}},{{modules,[]}},{{registered,[]}}");
        self.write(&format!("{dir}/ebin/{name}.app"), format!("{{application,{name},[{fixed},{keys}]}}.\n"));
    }

    /// Returns the recorded answer `name`, with each of `changes` made to its text, and with paths in this directory.
    pub(crate) fn answer(&self, name: &str, changes: &[(&str, &str)]) -> Term {
        let recorded = RECORDED_ANSWERS.iter().find(|(recorded, _)| *recorded == name);
        let mut text = recorded.unwrap_or_else(|| panic!("no answer `{name}`")).1.to_owned();
        for (old, new) in changes {
            assert!(text.contains(old), "the answer `{name}` has no `{old}`");
            text = text.replace(old, new);
        }
        for dir in ["project", "otp", "elixir"] {
            text = text.replace(&format!("<<\"/{dir}"), &format!("<<\"{}", self.path(dir).display()));
        }
        parse_one(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Creates a release path.
pub(crate) fn tree_path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// Returns the paths of a tree.
pub(crate) fn paths(tree: &ReleaseTree) -> Vec<String> {
    tree.iter().map(|(path, _)| path.as_path().display().to_string()).collect()
}

/// Returns the permission bits of a file in a tree.
pub(crate) fn mode_of(tree: &ReleaseTree, path: &str) -> Option<u32> {
    match tree.get(&tree_path(path)) {
        Some(ReleaseEntry::File { mode, .. }) => Some(*mode),
        Some(ReleaseEntry::Dir | ReleaseEntry::Link(_)) | None => None,
    }
}

/// Returns the text of a file in a tree.
pub(crate) fn text_of(tree: &ReleaseTree, path: &str) -> Option<String> {
    let Some(ReleaseEntry::File { content, .. }) = tree.get(&tree_path(path)) else { return None };
    let bytes = match content {
        ReleaseFileContent::Bytes(bytes) => bytes.clone(),
        ReleaseFileContent::Embedded(bytes) => bytes.to_vec(),
        ReleaseFileContent::Disk(path) | ReleaseFileContent::Beam(path, _) => fs::read(path).unwrap(),
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts a file with the content of the file `from` into a tree.
pub(crate) fn put_disk(tree: &mut ReleaseTree, path: &str, from: &Path, mode: u32) {
    let content = ReleaseFileContent::Disk(from.to_owned());
    tree.put(tree_path(path), ReleaseEntry::File { content, mode });
}

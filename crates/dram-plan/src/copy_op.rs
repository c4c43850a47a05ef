//! Copies: `COPY` and `ADD`.

use serde::{Deserialize, Serialize};

use crate::{ChmodMode, InputRef};

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyOp {
    /// The input that the paths among the sources belong to.
    pub from: InputRef,
    /// The sources; at least one.
    pub sources: Vec<CopySource>,
    /// The destination: absolute and clean, with a trailing slash when it is certainly a directory.
    pub dest: String,
    /// `user[:group]`, names or ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chown: Option<String>,
    /// Permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chmod: Option<ChmodMode>,
    /// The handling of archives.
    pub unpack: UnpackPolicy,
    /// `--link`: the layer does not depend on its parent layers, and their symbolic links are not followed.
    #[serde(default)]
    pub link: bool,
    /// `--parents`: the parent directories of the sources are copied too.
    #[serde(default)]
    pub parents: bool,
    /// `--exclude`: patterns as in `.dockerignore`, for paths below each source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// `--checksum` of a URL source: `sha256:` and 64 hexadecimal digits. That of a Git source is in its [`GitRef`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// `--keep-git-dir`, for a Git source.
    #[serde(default)]
    pub keep_git_dir: bool,
}

/// The handling of archives by a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UnpackPolicy {
    /// `COPY` and `ADD --unpack=false`: archives are copied as files.
    No,
    /// `ADD`: archives of the build context are unpacked.
    Local,
    /// `ADD --unpack`: archives from the network are unpacked too.
    All,
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopySource {
    /// The path with variables expanded and wildcards of Go's `filepath.Match`, a file name of a heredoc, or a URL.
    pub text: String,
    /// The kind of source.
    pub kind: CopySourceKind,
}

/// The kinds of sources of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CopySourceKind {
    /// A path in the input that is copied from.
    Path,
    /// A heredoc: a file with these contents and mode 0644.
    Inline(String),
    /// A file on the network.
    Url,
    /// A Git repository.
    Git(Box<GitRef>),
}

/// A reference into a Git repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitRef {
    /// The address of the repository, without query and fragment, as passed to `git`.
    pub remote: String,
    /// The name of the repository: the last part of the address without `.git`.
    pub short_name: String,
    /// A branch, tag or commit, or a full name that begins with `refs/`; empty means the default branch.
    #[serde(default)]
    pub reference: String,
    /// The directory inside the repository; empty means all of it.
    #[serde(default)]
    pub subdir: String,
    /// A prefix of the id of the commit, or of its tag object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// True to keep `.git`; `None` when the address does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_git_dir: Option<bool>,
    /// True to fetch submodules, which is the default; `None` when the address does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submodules: Option<bool>,
    /// True to set the times of files to that of the commit; `None` when the address does not say. Applies only to
    /// build contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_times: Option<bool>,
    /// True to fetch the commit `checksum`, even if the reference points elsewhere.
    #[serde(default)]
    pub fetch_by_commit: bool,
    /// True for `http://` and `git://`, whose data can be changed in transit.
    #[serde(default)]
    pub is_unencrypted: bool,
}

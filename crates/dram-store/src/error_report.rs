//! The class and the help of each [`StoreError`].

use std::io::{Error, ErrorKind};

use dram_error::{ErrorClass, ErrorReport};
use rustix::io::Errno;

use crate::{CacheArchiveError, StoreError};

/// The help for a damaged image.
const DAMAGED_IMAGE_HELP: &str = "bring the image in again with `dram pull`, `dram load` or `dram import`, or build it again; `dram \
                                  fsck --repair` makes good what can be";
/// The help for a lost or damaged index of image references.
const INDEX_HELP: &str = "`dram fsck --repair` puts the names back from a copy";

impl ErrorReport for StoreError {
    fn class(&self) -> ErrorClass {
        match self {
            StoreError::FetchFailed { source, .. } => source.class(),
            StoreError::TooManyForeignIds { .. } => ErrorClass::MissingSupport,
            StoreError::Io { .. }
            | StoreError::UnreadableInput { .. }
            | StoreError::UnknownVersion { .. }
            | StoreError::OldAndReadOnly { .. }
            | StoreError::NotADirectory(_)
            | StoreError::ReadOnly(_)
            | StoreError::MissingIndex(_)
            | StoreError::MissingBlob { .. }
            | StoreError::DamagedBlob { .. }
            | StoreError::WrongDiffId { .. }
            | StoreError::WrongContent { .. }
            | StoreError::ForeignPacking { .. }
            | StoreError::DamagedIndex { .. }
            | StoreError::Document { .. }
            | StoreError::UnwritableDocument(_)
            | StoreError::LayerTar { .. }
            | StoreError::Tar { .. }
            | StoreError::InvalidEntry { .. }
            | StoreError::Unrepresentable { .. }
            | StoreError::SymlinkLoop { .. }
            | StoreError::LinkInOutput(_)
            | StoreError::Path(_) => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        if let Some(exceeded) = self.limit_exceeded() {
            let (name, allowed) = (exceeded.limit.name(), exceeded.allowed);
            return vec![format!(
                "if the archive is trusted, allow more: `--limit {name}={}`",
                allowed.saturating_mul(10)
            )];
        }
        let help = match self {
            StoreError::FetchFailed { source, .. } => return source.helps(),
            StoreError::DamagedIndex { .. } | StoreError::MissingIndex(_) => Some(INDEX_HELP),
            StoreError::MissingBlob { .. }
            | StoreError::DamagedBlob { .. }
            | StoreError::WrongDiffId { .. }
            | StoreError::WrongContent { .. }
            | StoreError::ForeignPacking { .. }
            | StoreError::Document { .. }
            | StoreError::LayerTar { .. } => Some(DAMAGED_IMAGE_HELP),
            StoreError::UnknownVersion { found, .. } if found.parse::<u64>().is_err() => Some(
                "its file `version` is damaged: if this dram made the store, write a file with a `2` in it in that place, \
                 then `dram fsck --repair`; or name another store with --store",
            ),
            StoreError::UnknownVersion { .. } => Some("use the dram that made it, or another store with --store"),
            StoreError::OldAndReadOnly { .. } => Some("make it writable for one command, or name another with --store"),
            StoreError::NotADirectory(_) => Some("`dram fsck --repair` moves it to `lost/` in the store"),
            StoreError::ReadOnly(_) => Some("make it writable, or name another with --store"),
            StoreError::Io { source, .. } => io_help(source),
            StoreError::UnreadableInput { .. } => {
                Some("let this user read it, or leave it out of the build context with .dockerignore")
            }
            StoreError::TooManyForeignIds { .. } => Some(
                "give this user more ids in /etc/subuid and /etc/subgid, build as root, or change these owners in the base image",
            ),
            StoreError::Unrepresentable { .. } => Some("rename or remove it in the step that makes it"),
            StoreError::UnwritableDocument(error) => Some(error.help()),
            StoreError::LinkInOutput(_) => {
                Some("remove the link, or name the directory to which it leads as the destination")
            }
            StoreError::Tar { .. }
            | StoreError::InvalidEntry { .. }
            | StoreError::SymlinkLoop { .. }
            | StoreError::Path(_) => None,
        };
        help.map(str::to_owned).into_iter().collect()
    }

    fn causes(&self) -> Vec<String> {
        if let StoreError::FetchFailed { source, .. } = self {
            return std::iter::once(self.to_string()).chain(source.causes()).collect();
        }
        dram_error::error_chain(self)
    }
}

/// The limit is that of the process (`RLIMIT_FSIZE`), or that of the file system.
const FILE_SIZE_HELP: &str = "the size of a file is limited here: `ulimit -f unlimited` in the shell raises the limit";

/// Returns the help for a failed file operation in the store.
fn io_help(error: &Error) -> Option<&'static str> {
    if error.kind() == ErrorKind::PermissionDenied {
        return Some("it may belong to another user: name another store with --store or DRAM_STORE");
    }
    // There is a file where a directory should be, or the other way round.
    if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists) {
        return Some("if that is in the store, `dram fsck --repair` moves what is of another kind to `lost/` there");
    }
    if error.kind() == ErrorKind::InvalidFilename {
        return Some("no path of an image can be longer than 4,095 bytes: nest directories less deeply");
    }
    exhausted_resource_help(error)
}

/// Returns the help for an exhausted resource: disk space, quota, the size of a file or open files.
#[must_use]
pub fn exhausted_resource_help(error: &Error) -> Option<&'static str> {
    if error.kind() == ErrorKind::StorageFull {
        return Some("free space on the disk, or inodes (`df -i`): `dram prune` removes what nothing needs");
    }
    if error.kind() == ErrorKind::QuotaExceeded {
        return Some("free space with `dram prune`, or let the store take more with `--max-size`");
    }
    if error.kind() == ErrorKind::FileTooLarge {
        return Some(FILE_SIZE_HELP);
    }
    let files = Errno::from_io_error(error) == Some(Errno::MFILE);
    files.then_some("raise the limit of open files: `ulimit -n 1024`")
}

impl ErrorReport for CacheArchiveError {
    fn class(&self) -> ErrorClass {
        match self {
            CacheArchiveError::Store(error) => error.class(),
            CacheArchiveError::UnsupportedCompression(_) => ErrorClass::Usage,
            CacheArchiveError::InUse { .. } | CacheArchiveError::Gone { .. } | CacheArchiveError::NotCaches { .. } => {
                ErrorClass::Work
            }
        }
    }

    fn helps(&self) -> Vec<String> {
        let help = match self {
            CacheArchiveError::Store(error) => return error.helps(),
            CacheArchiveError::InUse { .. } => "try again when the build is over",
            CacheArchiveError::UnsupportedCompression(_) => "give the file a name that ends in `.gz` or `.zst`",
            CacheArchiveError::Gone { .. } => "`dram cache ls` lists all",
            CacheArchiveError::NotCaches { .. } => "name a file that `dram cache export` wrote; nothing was changed",
        };
        vec![help.to_owned()]
    }

    fn causes(&self) -> Vec<String> {
        if let CacheArchiveError::Store(error) = self {
            return error.causes();
        }
        dram_error::error_chain(self)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use dram_error::AnyReport;
    use dram_image::tar::TarError;
    use dram_image::{Digest, DocumentError};

    use super::*;
    use crate::LayerId;

    #[test]
    fn help_follows_from_the_variant_and_from_the_kind_of_the_system_error() {
        let (digest, path) = (Digest::of(b""), PathBuf::new);
        let id = || LayerId::from_diff_id(&digest);
        let io = |kind: ErrorKind| StoreError::Io { verb: "open", path: path(), source: kind.into() };
        let document = || DocumentError::Invalid { what: "the index", why: String::new() };
        let truncated = || TarError::Truncated { what: String::new() };
        let version = |found: &str| StoreError::UnknownVersion { path: path(), found: found.to_owned(), known: 1 };
        let damaged = Some(DAMAGED_IMAGE_HELP);
        let table = [
            (io(ErrorKind::PermissionDenied), Some("it may belong")),
            (io(ErrorKind::IsADirectory), Some("if that is in the store")),
            (io(ErrorKind::StorageFull), Some("free space on the disk")),
            (io(ErrorKind::QuotaExceeded), Some("free space with")),
            (io(ErrorKind::FileTooLarge), Some("the size of a file is limited here")),
            (io(ErrorKind::InvalidFilename), Some("no path of an image can be longer")),
            (io(ErrorKind::NotFound), None),
            (version("7"), Some("use the dram that made it")),
            (version("x"), Some("its file `version` is damaged")),
            (StoreError::OldAndReadOnly { path: path(), known: 2 }, Some("make it writable for one")),
            (StoreError::NotADirectory(path()), Some("`dram fsck --repair` moves")),
            (StoreError::ReadOnly(path()), Some("make it writable")),
            (StoreError::MissingIndex(path()), Some(INDEX_HELP)),
            (StoreError::DamagedIndex { path: path(), source: document() }, Some(INDEX_HELP)),
            (StoreError::Document { path: path(), source: document() }, damaged),
            (StoreError::MissingBlob { digest }, damaged),
            (StoreError::DamagedBlob { digest, why: String::new() }, damaged),
            (StoreError::WrongDiffId { blob: digest, found: digest, expected: digest }, damaged),
            (StoreError::WrongContent { blob: digest, found: id(), expected: id() }, damaged),
            (StoreError::ForeignPacking { blob: digest }, damaged),
            (StoreError::LayerTar { what: String::new(), source: truncated() }, damaged),
            (StoreError::Tar { what: String::new(), source: truncated() }, None),
            (StoreError::InvalidEntry { entry: String::new(), why: "" }, None),
            (StoreError::SymlinkLoop { path: String::new() }, None),
            (
                StoreError::Unrepresentable { path: dram_image::TreePath::root(), why: "" },
                Some("rename or remove it in the step that makes it"),
            ),
        ];
        for (error, expected) in table {
            let helps = error.helps();
            assert_eq!(error.class(), ErrorClass::Work, "{error:?}");
            assert_eq!(helps.len(), usize::from(expected.is_some()), "{error:?}");
            assert!(helps.iter().all(|help| help.starts_with(expected.unwrap_or_default())), "{error:?}: {helps:?}");
        }
    }

    #[test]
    fn blob_that_cannot_be_fetched_reports_what_its_source_reports() {
        let digest = Digest::of(b"");
        let error =
            StoreError::FetchFailed { digest, source: AnyReport::new(CacheArchiveError::InUse { id: "x".into() }) };
        assert_eq!(error.causes(), [format!("cannot fetch the blob {digest}"), "the cache `x` is in use".to_owned()]);
        assert_eq!((error.class(), error.helps().len()), (ErrorClass::Work, 1));
    }
}

//! Verifies the root of the store: its top-level entries, their types and their ownership.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::FsckRun;
use crate::atomic_file::{self, Durability};
use crate::store::{DIRECTORIES, MAX_VERSION_BYTES, OCI_LAYOUT, OPTIONAL_DIRECTORIES, TOP_LEVEL_FILES};
use crate::{Dir, StoreError};

/// Cost of an entry of the wrong type.
const UNUSABLE_COST: &str = "what is kept there cannot be used";

impl FsckRun<'_> {
    /// Verifies the root directory of the store and all its entries.
    pub(super) fn check_root(&mut self) -> Result<(), StoreError> {
        let root = self.store.root().to_owned();
        for moved in self.store.misplaced.clone() {
            let what =
                format!("it should be {}, and was none", if moved.must_be_dir { "a directory" } else { "a file" });
            self.report_finding(
                &root.join(moved.store_path),
                what,
                UNUSABLE_COST,
                "it is moved to lost/, and made anew",
                |_| Ok(()),
            );
        }
        let meta = fs::symlink_metadata(&root).map_err(StoreError::io("look at", &root))?;
        if meta.mode() & 0o077 != 0 {
            let what = format!("others may look into the store: its mode is {:o}", meta.mode() & 0o7777);
            self.report_finding(
                &root,
                what,
                "programs in it that run as root can be run by others",
                "its mode is made 700",
                |_| set_mode(&root, 0o700),
            );
        }
        for name in Dir::open(&root)?.names()? {
            let name = String::from_utf8_lossy(&name).into_owned();
            let path = root.join(&name);
            let is_dir = DIRECTORIES.contains(&name.as_str()) || OPTIONAL_DIRECTORIES.contains(&name.as_str());
            match is_dir || TOP_LEVEL_FILES.contains(&name.as_str()) {
                true => self.check_known(&path, is_dir)?,
                false => self.report_unknown(&path),
            }
        }
        self.check_oci_layout()?;
        self.check_children("oci", &["oci-layout", "index.json", "blobs"])?;
        self.check_children("oci/blobs", &["sha256"])
    }

    /// Verifies type and ownership of a known entry.
    fn check_known(&mut self, path: &Path, is_dir: bool) -> Result<(), StoreError> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        let right = if is_dir { meta.is_dir() } else { meta.is_file() };
        if !right {
            let what = format!("it is {}", kind_name(&meta));
            self.report_finding(path, what, UNUSABLE_COST, "it is moved to lost/, and made anew", |check| {
                check.move_to_lost(path)?;
                if is_dir { fs::create_dir(path).map_err(StoreError::io("make the directory", path)) } else { Ok(()) }
            });
            return Ok(());
        }
        let own_uid = rustix::process::geteuid().as_raw();
        if meta.uid() != own_uid {
            let what = format!("it belongs to the user {}, and not to {own_uid}", meta.uid());
            self.report_finding(path, what, "that user can change it", "it is given to the store's user", |_| {
                std::os::unix::fs::lchown(path, Some(own_uid), None)
                    .map_err(StoreError::io("change the owner of", path))
            });
        }
        Ok(())
    }

    /// Reports an entry that dram does not create.
    pub(super) fn report_unknown(&mut self, path: &Path) {
        let what = match fs::symlink_metadata(path) {
            Ok(meta) => format!("{} that is no part of a store", kind_name(&meta)),
            Err(_) => return,
        };
        self.report_finding(path, what, "nothing but its space", "it is moved to lost/", |check| {
            check.move_to_lost(path)
        });
    }

    fn check_oci_layout(&mut self) -> Result<(), StoreError> {
        let path = self.store.join("oci/oci-layout");
        let good = atomic_file::read_limited(&path, 4096).ok().flatten().and_then(|bytes| {
            let value = serde_json::from_slice::<serde_json::Value>(&bytes).ok()?;
            Some(value.get("imageLayoutVersion")?.as_str()?.starts_with("1."))
        });
        if good != Some(true) {
            let cost = "other tools cannot read the images";
            self.report_finding(
                &path,
                "it does not say that this is an OCI layout",
                cost,
                "it is written anew",
                |check| {
                    check.move_non_file_to_lost(&path)?;
                    let work = check.store.work_dir().path();
                    atomic_file::write_atomic(&path, OCI_LAYOUT, MAX_VERSION_BYTES, &work, Durability::Synced)
                },
            );
        }
        Ok(())
    }

    /// Moves the entry at `path` to `lost/` unless it is missing or a regular file, which can be replaced.
    fn move_non_file_to_lost(&mut self, path: &Path) -> Result<(), StoreError> {
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() => self.move_to_lost(path),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn check_children(&mut self, place: &str, known: &[&str]) -> Result<(), StoreError> {
        let at = self.store.join(place);
        for name in Dir::open(&at)?.names()? {
            if !known.iter().any(|known| known.as_bytes() == name) {
                self.report_unknown(&at.join(std::ffi::OsStr::new(String::from_utf8_lossy(&name).as_ref())));
            }
        }
        Ok(())
    }
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(StoreError::io("change the mode of", path))
}

/// Returns the type of a file, for messages.
pub(super) fn kind_name(meta: &fs::Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_dir() => "a directory",
        () if kind.is_file() => "a file",
        () => "neither a file nor a directory",
    }
}

//! The files of an image as a process of its user sees them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use dram_image::ContainerConfig;
use dram_image::TreePath;
use dram_image::elf::{ElfRequirements, read_file_requirements};
use dram_sandbox::UserIds;
use dram_start::environment::EnvironmentVariables;
use dram_store::{FileKind, FileStatus, FileTree as _, MergedTree, StoreError, TreeNode};

/// The directories that are searched when the image sets no `PATH`: Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Directories that are mounted when a container starts.
const MOUNTED_DIRS: &[&str] = &["proc", "sys", "dev"];

/// The result of a lookup of a path.
#[derive(Debug)]
pub(super) enum ImageFile {
    /// It exists, at this real path.
    Found(TreeNode),
    /// It does not exist.
    Missing,
    /// A directory on the way, or the file, does not permit the access.
    Forbidden(FileStatus),
    /// It may exist when a container runs: a volume or the kernel brings it.
    Unknown,
}

/// The access to a file that a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAccess {
    /// Only know whether it exists.
    Exist,
    Execute,
    Read,
}

/// The files of an image, with the user, the working directory, the variables and the volumes of its containers.
#[derive(Debug)]
pub(super) struct ImageFiles<'a> {
    tree: &'a MergedTree,
    user: UserIds,
    working_dir: String,
    env: BTreeMap<&'a str, &'a str>,
    volumes: Vec<TreePath>,
}

impl<'a> ImageFiles<'a> {
    pub(super) fn new(tree: &'a MergedTree, config: &'a ContainerConfig, user: UserIds) -> ImageFiles<'a> {
        let volumes = config.volumes.keys().filter_map(|path| TreePath::clean(path.as_bytes()).ok());
        ImageFiles {
            tree,
            user,
            working_dir: config.working_dir.clone(),
            env: config.env.iter().filter_map(|pair| pair.split_once('=')).collect(),
            volumes: volumes.collect(),
        }
    }

    /// Returns the value of a variable of the image.
    pub(super) fn env_value(&self, name: &str) -> Option<&'a str> {
        self.env.get(name).copied()
    }

    /// Returns all variables of the image, as the start program of a release sees them.
    pub(super) fn env_variables(&self) -> EnvironmentVariables {
        let mut env = EnvironmentVariables::default();
        self.env.iter().for_each(|(name, value)| env.set(name.as_bytes(), value.as_bytes()));
        env
    }

    /// Returns the directories in which programs are searched.
    pub(super) fn search_path(&self) -> &'a str {
        self.env_value("PATH").unwrap_or(DEFAULT_PATH)
    }

    /// Returns `path` as an absolute path; a relative one begins at the working directory.
    pub(super) fn absolute(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.working_dir),
        }
    }

    /// Looks up `path`, following symbolic links, for an access of the user.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be read.
    pub(super) fn find(&self, path: &str, access: FileAccess) -> Result<ImageFile, StoreError> {
        // A path with a NUL byte exists nowhere.
        let Ok(clean) = TreePath::clean(self.absolute(path).as_bytes()) else { return Ok(ImageFile::Missing) };
        let (real, node) = match self.tree.resolve(&clean) {
            Ok(found) => found,
            Err(StoreError::SymlinkLoop { .. }) => return Ok(ImageFile::Missing),
            Err(error) => return Err(error),
        };
        if let Some(forbidden) = self.forbidden_dir(&real)? {
            return Ok(ImageFile::Forbidden(forbidden));
        }
        match node {
            None if self.is_mounted(&real) => Ok(ImageFile::Unknown),
            None => Ok(ImageFile::Missing),
            Some(node) if !self.permits(&node.status, access) => Ok(ImageFile::Forbidden(node.status)),
            Some(node) => Ok(ImageFile::Found(node)),
        }
    }

    /// Returns the directory on the way to `real` that the user may not search.
    fn forbidden_dir(&self, real: &TreePath) -> Result<Option<FileStatus>, StoreError> {
        let mut dir = real.parent();
        while let Some(path) = dir {
            if let Some(node) = self.tree.node_at(&path)?
                && !self.permits(&node.status, FileAccess::Execute)
            {
                return Ok(Some(node.status));
            }
            dir = path.parent();
        }
        Ok(None)
    }

    fn permits(&self, status: &FileStatus, access: FileAccess) -> bool {
        let wanted = match access {
            FileAccess::Exist => return true,
            FileAccess::Execute => 0o1,
            FileAccess::Read => 0o4,
        };
        if self.user.uid == 0 {
            // Root may do everything but execute a file that nobody may execute.
            return access != FileAccess::Execute || status.kind == FileKind::Dir || status.mode & 0o111 != 0;
        }
        let in_group = self.user.gid == status.gid || self.user.groups.contains(&status.gid);
        let shift = match () {
            () if self.user.uid == status.uid => 6,
            () if in_group => 3,
            () => 0,
        };
        (status.mode >> shift) & wanted != 0
    }

    fn is_mounted(&self, real: &TreePath) -> bool {
        let first = real.components().next().unwrap_or_default();
        MOUNTED_DIRS.iter().any(|dir| dir.as_bytes() == first)
            || self.volumes.iter().any(|volume| real.strip_prefix(volume).is_some())
    }

    /// Returns true if `path` is a file that can be read.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be read.
    pub(super) fn readable(&self, path: &str) -> Result<Option<TreeNode>, StoreError> {
        match self.find(path, FileAccess::Read)? {
            ImageFile::Found(node) if node.status.kind == FileKind::File => Ok(Some(node)),
            ImageFile::Found(_) | ImageFile::Missing | ImageFile::Forbidden(_) | ImageFile::Unknown => Ok(None),
        }
    }

    /// Reads at most `most` bytes of the regular file `node`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub(super) fn read_start(&self, node: &TreeNode, most: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let fail = |source| StoreError::Io { verb: "read", path: node.path.as_path().to_owned(), source };
        self.open(node)?.take(most).read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    /// Reads what the ELF file `node` needs and offers; `None` if it is none.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub(super) fn read_elf(&self, node: &TreeNode) -> Result<Option<ElfRequirements>, StoreError> {
        Ok(read_file_requirements(self.open(node)?))
    }

    fn open(&self, node: &TreeNode) -> Result<File, StoreError> {
        self.tree.open(&node.path)
    }

    /// Returns the names in the directory `path`, sorted; none if there is no such directory.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be read.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, StoreError> {
        match self.find(path, FileAccess::Exist)? {
            ImageFile::Found(node) if node.status.kind == FileKind::Dir => {
                let names = self.tree.list(&node.path)?;
                Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
            }
            ImageFile::Found(_) | ImageFile::Missing | ImageFile::Forbidden(_) | ImageFile::Unknown => Ok(Vec::new()),
        }
    }
}

/// Returns a real path as the image's users write it.
pub(super) fn shown(path: &TreePath) -> String {
    path.to_string()
}

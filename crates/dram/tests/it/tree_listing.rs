//! Lists a root file system as lines of text, one for each path, so that two can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::support::tool;

/// Paths with all metadata and content, except timestamps.
pub(crate) type Listing = BTreeMap<String, String>;

/// Lists everything below `root`, and `root` itself as `.`.
pub(crate) fn listing(root: &Path) -> Listing {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        found.push((if name.is_empty() { ".".to_owned() } else { name }, path, meta));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut first_names: HashMap<(u64, u64), String> = HashMap::new();
    let mut lines = Listing::new();
    for (name, path, meta) in found {
        let first = first_names.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone());
        let line = if *first == name { describe(&path, &meta) } else { format!("another name of {first}") };
        lines.insert(name, line);
    }
    lines
}

fn describe(path: &Path, meta: &Metadata) -> String {
    let head = format!("{:04o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_symlink() {
        let target = fs::read_link(path).unwrap();
        format!("link to {}", target.as_os_str().as_bytes().escape_ascii())
    } else if kind.is_file() {
        format!("file {}", content(path))
    } else if kind.is_fifo() {
        "pipe".to_owned()
    } else {
        format!("{kind:?} {}", meta.rdev())
    };
    format!("{head} {what}{}", xattrs(path))
}

/// Returns short contents as they are, and longer ones as a digest.
fn content(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    if bytes.len() <= 80 {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let sum = tool("sha256sum").arg(path).ok().stdout;
    format!("of {} bytes, {}", bytes.len(), sum.trim_start_matches('\\').chars().take(16).collect::<String>())
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return String::new() };
    let mut all = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, CString::new(name).unwrap(), &mut value[..]).unwrap();
        all.push(format!(" [{}={}]", name.escape_ascii(), value[..length].escape_ascii()));
    }
    all.sort();
    all.concat()
}

/// Returns the lines that `new` has and `old` has not, and with a `-` in front the paths that `new` lacks.
pub(crate) fn difference(old: &Listing, new: &Listing) -> Vec<String> {
    let added = new.iter().filter(|(path, line)| old.get(*path) != Some(line));
    let gone = old.keys().filter(|path| !new.contains_key(*path));
    let added = added.map(|(path, line)| (path, format!("{path} {line}")));
    let mut all: Vec<_> = added.chain(gone.map(|path| (path, format!("- {path}")))).collect();
    all.sort();
    all.into_iter().map(|(_, line)| line).collect()
}

//! Users and groups of an image, from its own `/etc/passwd` and `/etc/group`, never from the host's.

use std::io::Read as _;

use dram_image::TreePath;
use dram_sandbox::UserIds;
use dram_store::{FileKind, FileTree as _, MergedTree, StoreError};

/// The largest `passwd` or `group` file that is read; nobody writes a larger one by hand.
const MAX_LIST_SIZE: u64 = 4 << 20;

/// The reasons why a user or group could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The image has no user of this name.
    #[error("the image has no user `{0}` in its /etc/passwd")]
    NoUser(String),
    /// The image has no group of this name.
    #[error("the image has no group `{0}` in its /etc/group")]
    NoGroup(String),
    /// The number is out of the range of ids.
    #[error("`{0}` is not a user or group id: the largest is 2147483647")]
    IdTooLarge(String),
    /// The user's line of `/etc/passwd` has no valid id. It must not become root by accident.
    #[error("the line of `{name}` in the image's /etc/passwd has no valid {field}")]
    InvalidEntry {
        /// The user, as written in the build or the command.
        name: String,
        /// The field without a number.
        field: &'static str,
    },
    /// `/etc/passwd` or `/etc/group` could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user, with the data that the kernel and a shell need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The ids that the process gets.
    pub ids: UserIds,
    /// The home directory; `/` if none is known.
    pub home: String,
}

/// Resolves the user `text` (`user` or `user:group`, as names or ids; empty for root) in the image `view`.
///
/// Follows container runtimes: a name must be in the image's files, an id need not be; `root` is 0 where the files do not
/// say otherwise, or do not exist. Without a group, the process
/// gets the user's primary group and those that list the user; with a group, only that one. The primary group is also
/// the first of the supplementary groups; otherwise a process could drop a group that denies it access to a file
/// (CVE-2023-25173).
///
/// # Errors
/// Returns an error if a name is not in the files, an id is out of range, or the files cannot be read.
pub fn resolve_user(view: &MergedTree, text: &str) -> Result<ImageUser, UserError> {
    let (name, group) = split_user_group(text);
    let passwd = read_list(view, "etc/passwd")?;
    let groups = read_list(view, "etc/group")?;
    let name = if name.is_empty() { "0" } else { name };
    let entry = find_entry(&passwd, name, 2);
    let uid = match (parse_id(name)?, &entry) {
        (Some(uid), _) => uid,
        (None, Some(entry)) => id_field(entry, name, UID_FIELD)?,
        (None, None) if name == ROOT => 0,
        (None, None) => return Err(UserError::NoUser(name.to_owned())),
    };
    let own_group = entry.as_ref().map(|entry| id_field(entry, name, GID_FIELD)).transpose()?.unwrap_or(0);
    let home = entry.as_ref().and_then(|entry| entry.get(5).cloned()).filter(|home| !home.is_empty());
    let ids = match group {
        Some(group) => {
            let gid = group_id(&groups, group)?;
            UserIds { uid, gid, groups: vec![gid] }
        }
        None => {
            let login = entry.as_ref().and_then(|entry| entry.first().cloned());
            let more = login.map(|login| groups_of(&groups, &login)).unwrap_or_default();
            let more = more.into_iter().filter(|&gid| gid != own_group);
            UserIds { uid, gid: own_group, groups: std::iter::once(own_group).chain(more).collect() }
        }
    };
    Ok(ImageUser { ids, home: home.unwrap_or_else(|| "/".to_owned()) })
}

/// Resolves the owner of `--chown=text` in the image `view`: user and group. Without a group, it is the user's primary
/// group, or for a bare id the group with that id.
///
/// # Errors
/// As [`resolve_user`]. BuildKit silently takes root for an unknown name; here it is an error.
pub fn resolve_owner(view: &MergedTree, text: &str) -> Result<(u32, u32), UserError> {
    let (name, group) = split_user_group(text);
    let (uid, own) = match parse_id(name)? {
        Some(uid) => (uid, uid),
        None => match find_entry(&read_list(view, "etc/passwd")?, name, 2) {
            Some(entry) => (id_field(&entry, name, UID_FIELD)?, id_field(&entry, name, GID_FIELD)?),
            None if name == ROOT => (0, 0),
            None => return Err(UserError::NoUser(name.to_owned())),
        },
    };
    match group {
        None => Ok((uid, own)),
        Some(group) => Ok((uid, group_id(&read_list(view, "etc/group")?, group)?)),
    }
}

/// The name of the user and of the group 0.
const ROOT: &str = "root";

/// A field of a line of `/etc/passwd`: its index and its name for messages.
type PasswdField = (usize, &'static str);
const UID_FIELD: PasswdField = (2, "user id");
const GID_FIELD: PasswdField = (3, "group id");

/// Returns the id in a line of `/etc/passwd`. Other engines silently take root for a field that is no number.
fn id_field(entry: &[String], name: &str, (at, field): PasswdField) -> Result<u32, UserError> {
    let id = entry.get(at).and_then(|text| text.parse().ok());
    id.ok_or_else(|| UserError::InvalidEntry { name: name.to_owned(), field })
}

fn split_user_group(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    }
}

/// Parses an id: `None` if `text` is not a number. Ids above 2147483647 are refused, as engines do: some programs read
/// them as negative numbers, and therefore as another user.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i32>().ok().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(Some(id)),
        None => Err(UserError::IdTooLarge(text.to_owned())),
    }
}

fn group_id(groups: &[Vec<String>], group: &str) -> Result<u32, UserError> {
    if let Some(gid) = parse_id(group)? {
        return Ok(gid);
    }
    let entry = groups.iter().find(|entry| entry.first().is_some_and(|name| name == group));
    if entry.is_none() && group == ROOT {
        return Ok(0);
    }
    let gid = entry.and_then(|entry| entry.get(2)?.parse().ok());
    gid.ok_or_else(|| UserError::NoGroup(group.to_owned()))
}

/// Finds the line whose name is `text`, or whose field `at` is, if `text` is a number.
fn find_entry(list: &[Vec<String>], text: &str, at: usize) -> Option<Vec<String>> {
    let by_name = |entry: &&Vec<String>| entry.first().is_some_and(|name| name == text);
    let by_id = |entry: &&Vec<String>| entry.get(at).is_some_and(|id| id == text);
    list.iter().find(by_name).or_else(|| list.iter().find(by_id)).cloned()
}

fn groups_of(groups: &[Vec<String>], login: &str) -> Vec<u32> {
    let lists = |entry: &&Vec<String>| entry.get(3).is_some_and(|members| members.split(',').any(|name| name == login));
    groups.iter().filter(lists).filter_map(|entry| entry.get(2)?.parse().ok()).collect()
}

/// Returns the fields of each line. The list is empty if the file is missing or not a regular file.
fn read_list(view: &MergedTree, path: &str) -> Result<Vec<Vec<String>>, StoreError> {
    let path = TreePath::parse(path.as_bytes())?;
    let Some(node) = view.find(&path, true)? else { return Ok(Vec::new()) };
    if node.status.kind != FileKind::File || node.status.size > MAX_LIST_SIZE {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    let read = view.open(&node.path)?.take(MAX_LIST_SIZE).read_to_end(&mut bytes);
    read.map_err(|source| StoreError::Io { verb: "read", path: node.path.as_path().to_owned(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| line.trim().split(':').map(str::to_owned).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> (tempfile::TempDir, MergedTree) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\napp:x:1001:\naudio:x:29:x,app\n").unwrap();
        let view = MergedTree::open(&[dir.path().to_owned()]).unwrap();
        (dir, view)
    }

    #[test]
    fn user_is_resolved_in_the_passwd_and_group_of_the_image() {
        let (_dir, view) = view();
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, vec![0], "/root"),
            ("app", 1000, 1001, vec![1001, 29], "/home/app"),
            ("1000", 1000, 1001, vec![1001, 29], "/home/app"),
            ("app:audio", 1000, 29, vec![29], "/home/app"),
            ("7", 7, 0, vec![0], "/"),
            ("7:8", 7, 8, vec![8], "/"),
        ] {
            let want = ImageUser { ids: UserIds { uid, gid, groups }, home: home.to_owned() };
            assert_eq!(resolve_user(&view, text).unwrap(), want, "{text}");
        }
        for text in ["nobody", "app:nobody", "2147483648", "4294967295", "4294967296", "0:4294967296"] {
            assert!(resolve_user(&view, text).is_err(), "{text}");
        }
    }

    #[test]
    fn root_is_0_in_an_image_without_users() {
        let dir = tempfile::tempdir().unwrap();
        let view = MergedTree::open(&[dir.path().to_owned()]).unwrap();
        for text in ["root", "root:root", "0:root", "root:0", ":root"] {
            let ids = resolve_user(&view, text).unwrap().ids;
            assert_eq!(ids, UserIds { uid: 0, gid: 0, groups: vec![0] }, "{text}");
        }
        for (text, want) in [("root", (0, 0)), ("root:root", (0, 0)), ("7:root", (7, 0)), ("root:8", (0, 8))] {
            assert_eq!(resolve_owner(&view, text).unwrap(), want, "{text}");
        }
        for text in ["wheel", "root:wheel", "Root"] {
            assert!(resolve_user(&view, text).is_err() && resolve_owner(&view, text).is_err(), "{text}");
        }
        // What the image itself says is what holds.
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:5:6:::\n").unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:7:\n").unwrap();
        assert_eq!(resolve_owner(&view, "root").unwrap(), (5, 6));
        assert_eq!(resolve_owner(&view, "root:root").unwrap(), (5, 7));
    }

    #[test]
    fn user_whose_line_has_no_valid_id_is_an_error_and_not_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "nouid:x::1:::\nnogid:x:5:one:::\nshort:x:6\nminus:x:-2:-2:::\nfine:x:7:8:::\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let view = MergedTree::open(&[dir.path().to_owned()]).unwrap();
        for (name, field) in [("nouid", "user id"), ("nogid", "group id"), ("short", "group id"), ("minus", "user id")]
        {
            let expected = format!("the line of `{name}` in the image's /etc/passwd has no valid {field}");
            assert_eq!(resolve_user(&view, name).unwrap_err().to_string(), expected);
            assert_eq!(resolve_owner(&view, name).unwrap_err().to_string(), expected);
        }
        assert!(resolve_user(&view, "5").is_err(), "the primary group of the user is unknown");
        assert_eq!(resolve_owner(&view, "5").unwrap(), (5, 5));
        assert_eq!(resolve_owner(&view, "fine").unwrap(), (7, 8));
    }

    #[test]
    fn owner_without_a_group_gets_the_group_of_the_user() {
        let (_dir, view) = view();
        for (text, want) in [("app", (1000, 1001)), ("7", (7, 7)), ("app:29", (1000, 29)), ("7:audio", (7, 29))] {
            assert_eq!(resolve_owner(&view, text).unwrap(), want, "{text}");
        }
        assert!(resolve_owner(&view, "nobody").is_err());
    }
}

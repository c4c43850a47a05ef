//! Rootless execution: a user namespace in which the caller is root over subordinate ids.
//!
//! Subordinate ids: `subuid(5)`, `subgid(5)`; the tools that write the id maps: `newuidmap(1)`, `newgidmap(1)`.

use crate::host_checks::{HostCheck, HostCheckStatus, MissingHostSupport};
use crate::sys::{self, CloneResult};
use rustix::process::{WaitId, WaitIdOptions, getegid, geteuid, getpid, waitid};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities};
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directories that are searched for the two tools. `PATH` is ignored, as they run with root's privileges.
const MAPPING_TOOL_DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// The privileges of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessPrivilege {
    /// Root of the machine, or of the container that this runs in.
    Root,
    /// Root of a user namespace of its own.
    UserNamespace {
        /// The user id outside that is root inside.
        uid: u32,
        /// The number of user ids inside, root included. With 1, all files have the same owner.
        ids: u64,
        /// The reason why there is a single id, if there is.
        limitation: Option<String>,
    },
}

/// Makes this process root in a new user namespace, unless it already is root with the privilege to mount.
///
/// With ranges in `/etc/subuid` and `/etc/subgid`, ids from 1 on are those of the first range of each; without, there
/// is a single id. Root without the privilege to mount, as in a container, keeps all its own ids. The process must have
/// a single thread: the kernel refuses others.
///
/// # Errors
/// Returns the failed check, with its fix, if no user namespace can be created. The process then keeps its user, and
/// cannot run commands.
pub fn enter_user_namespace() -> Result<ProcessPrivilege, MissingHostSupport> {
    if is_root_with_sys_admin() {
        return Ok(ProcessPrivilege::Root);
    }
    // Checked in a child process first: a failure half way would leave this process with fewer privileges than before.
    if let Some(lack) = HostCheck::check_user_namespaces().into_missing_support() {
        return Err(lack);
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let source = IdSource::find(uid);
    let (mut from_mapper, mapper_end) = io::pipe().map_err(|e| namespace_refused(&e))?;
    let (mut from_us, mut to_mapper) = io::pipe().map_err(|e| namespace_refused(&e))?;
    let pid = getpid().as_raw_nonzero().get();
    // The tools write the maps of the namespace from outside, so a child stays outside.
    let mapper = match sys::clone_process(0).map_err(|e| namespace_refused(&e.into()))? {
        CloneResult::Child => {
            drop((from_mapper, to_mapper));
            write_maps_from_outside(&mut from_us, mapper_end, source.as_ref(), pid, uid, gid)
        }
        CloneResult::Parent(mapper) => mapper,
    };
    drop((from_us, mapper_end));
    let entered = sys::unshare(UnshareFlags::NEWUSER);
    // Without the byte, the mapper ends at once.
    let answer = entered.map_err(io::Error::from).and_then(|()| {
        to_mapper.write_all(b"+")?;
        let mut answer = String::new();
        from_mapper.read_to_string(&mut answer).map(|_| answer)
    });
    drop(to_mapper);
    // The mapper has ended; this only reaps it.
    let _ = waitid(WaitId::PidFd(mapper.as_fd()), WaitIdOptions::EXITED);
    let answer = answer.map_err(|e| namespace_refused(&e))?;
    match (source, answer.as_str()) {
        (Ok(source), "") => Ok(ProcessPrivilege::UserNamespace { uid, ids: source.count(), limitation: None }),
        (source, answer) => {
            map_single_id(uid, gid).map_err(|e| namespace_refused(&e))?;
            let limited = source.err().unwrap_or_else(|| answer.to_owned());
            Ok(ProcessPrivilege::UserNamespace { uid, ids: 1, limitation: Some(limited) })
        }
    }
}

/// Returns true for root with `CAP_SYS_ADMIN`, which mounting requires. Root of a container often lacks it.
pub(crate) fn is_root_with_sys_admin() -> bool {
    let may_mount = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    geteuid().is_root() && may_mount()
}

/// The source of the ids of a namespace.
pub(crate) enum IdSource {
    /// Subordinate ids in `/etc/subuid` and `/etc/subgid`.
    Subordinate(SubordinateIds),
    /// All ids of this root, mapped to themselves: the maps of users and groups.
    Inherited(String, String),
}

impl IdSource {
    /// The ids of the user, or a sentence about what is missing.
    pub(crate) fn find(uid: u32) -> Result<IdSource, String> {
        if uid != 0 {
            return SubordinateIds::find(uid).map(IdSource::Subordinate);
        }
        let map = |name: &str| {
            let text = fs::read_to_string(format!("/proc/self/{name}")).map_err(|e| e.to_string())?;
            Ok::<_, String>(identity_map(&text))
        };
        Ok(IdSource::Inherited(map("uid_map")?, map("gid_map")?))
    }

    /// The number of user ids that the namespace will have.
    pub(crate) fn count(&self) -> u64 {
        match self {
            IdSource::Subordinate(subordinate) => subordinate.users.count + 1,
            IdSource::Inherited(users, _) => {
                users.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()).sum()
            }
        }
    }

    fn write_maps(&self, pid: i32, uid: u32, gid: u32) -> Result<(), String> {
        match self {
            IdSource::Subordinate(subordinate) => {
                run_mapping_tool(&subordinate.newuidmap, pid, uid, &subordinate.users)
                    .and_then(|()| run_mapping_tool(&subordinate.newgidmap, pid, gid, &subordinate.groups))
            }
            IdSource::Inherited(users, groups) => {
                let write = |name: &str, map: &str| {
                    let done = fs::write(format!("/proc/{pid}/{name}"), map);
                    done.map_err(|e| format!("this root may not take all its ids along: {name}: {e}"))
                };
                write("uid_map", users).and_then(|()| write("gid_map", groups))
            }
        }
    }
}

/// The map of a child namespace in which every id maps to itself. The very last id is left out, so that only the map of
/// the initial namespace reads `0 0 4294967295`.
fn identity_map(map: &str) -> String {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (first, count) = (words.next()?, words.nth(1)?.parse::<u32>().ok()?);
        Some(format!("{first} {first} {}\n", count.min(u32::MAX - 1)))
    };
    map.lines().filter_map(line).collect()
}

fn namespace_refused(error: &io::Error) -> MissingHostSupport {
    let mut row = HostCheck::check_user_namespaces();
    if row.status == HostCheckStatus::Ok {
        row = HostCheck { status: HostCheckStatus::Missing, detail: format!("the kernel refused one: {error}"), ..row };
    }
    MissingHostSupport { failed_checks: vec![row] }
}

/// Runs in the child that stays outside: waits for the namespace, writes its maps, reports an error, and ends.
fn write_maps_from_outside(
    go: &mut PipeReader,
    mut answer: PipeWriter,
    source: Result<&IdSource, &String>,
    pid: i32,
    uid: u32,
    gid: u32,
) -> ! {
    let mut byte = [0];
    if let (Ok(source), Ok(1)) = (source, go.read(&mut byte))
        && let Err(problem) = source.write_maps(pid, uid, gid)
    {
        let _ = answer.write_all(problem.as_bytes());
    }
    drop(answer);
    sys::exit_now(0)
}

fn run_mapping_tool(tool: &Path, pid: i32, own: u32, range: &IdRange) -> Result<(), String> {
    let numbers = [u64::from(pid.unsigned_abs()), 0, u64::from(own), 1, 1, range.first, range.count];
    let output = Command::new(tool)
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start `{}`: {e}", tool.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{}` failed: {}", tool.display(), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Writes a map with a single id, which needs no tool. The kernel requires `setgroups` to be denied first
/// (CVE-2014-8989).
fn map_single_id(uid: u32, gid: u32) -> io::Result<()> {
    if fs::read_to_string("/proc/self/uid_map")?.trim().is_empty() {
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    }
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// A range of subordinate ids.
pub(crate) struct IdRange {
    first: u64,
    pub(crate) count: u64,
}

/// The subordinate ids of a user, and the tools that map them.
pub(crate) struct SubordinateIds {
    pub(crate) users: IdRange,
    groups: IdRange,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl SubordinateIds {
    /// The subordinate ids of the user, or a sentence about what is missing.
    pub(crate) fn find(uid: u32) -> Result<SubordinateIds, String> {
        let name = user_name(uid);
        Ok(SubordinateIds {
            users: IdRange::find("/etc/subuid", uid, name.as_deref())?,
            groups: IdRange::find("/etc/subgid", uid, name.as_deref())?,
            newuidmap: find_tool("newuidmap")?,
            newgidmap: find_tool("newgidmap")?,
        })
    }
}

impl IdRange {
    /// The first range of the user in a file with lines `name-or-uid:first:count`.
    fn find(path: &str, uid: u32, name: Option<&str>) -> Result<IdRange, String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let number = uid.to_string();
        let of_user = text.lines().find_map(|line| {
            let mut fields = line.trim().splitn(3, ':');
            let owner = fields.next()?;
            let range = IdRange { first: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
            (owner == number || Some(owner) == name).then_some(range)
        });
        of_user.filter(|range| range.count > 0).ok_or_else(|| {
            format!("`{path}` has no line for {}", name.map_or(format!("user {uid}"), |name| format!("`{name}`")))
        })
    }
}

/// Returns the first of 65,536 ids that no user has as subordinate ids, in `/etc/subuid` and `/etc/subgid`.
pub fn free_subordinate_ids() -> u32 {
    let texts = ["/etc/subuid", "/etc/subgid"].map(|path| fs::read_to_string(path).unwrap_or_default());
    free_ids(&texts)
}

/// The number of subordinate ids that a user is given.
const USUAL_COUNT: u32 = 65_536;
/// The first id that `useradd` gives as a subordinate id.
const USUAL_FIRST: u32 = 100_000;

fn free_ids(texts: &[String]) -> u32 {
    let mut taken: Vec<(u32, u32)> = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let mut fields = line.trim().splitn(3, ':').skip(1).map(str::parse::<u32>);
        if let (Some(Ok(first)), Some(Ok(count))) = (fields.next(), fields.next()) {
            taken.push((first, first.saturating_add(count)));
        }
    }
    taken.sort_unstable();
    let mut free = USUAL_FIRST;
    for (first, end) in taken {
        if first < free.saturating_add(USUAL_COUNT) && end > free {
            free = end;
        }
    }
    free
}

fn find_tool(name: &str) -> Result<PathBuf, String> {
    let candidates = MAPPING_TOOL_DIRS.iter().map(|directory| Path::new(directory).join(name));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| format!("`{name}` is not installed"))
}

/// The name of a user in `/etc/passwd`.
fn user_name(uid: u32) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read("/etc/passwd").ok()?).into_owned();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn proposed_subordinate_ids_belong_to_nobody() {
        for (users, groups, free) in [
            ("", "", 100_000),
            ("a:100000:65536\n", "a:100000:65536\n", 165_536),
            ("a:100000:65536\nb:165536:65536\n", "", 231_072),
            ("b:165536:65536\na:100000:65536\n", "c:231072:1\n", 231_073),
            ("a:1000:10\nb:500000:65536\nbroken\nx:y:z\n", "", 100_000),
            ("a:120000:10\n", "", 120_010),
        ] {
            assert_eq!(super::free_ids(&[users.to_owned(), groups.to_owned()]), free, "{users} {groups}");
        }
    }

    #[test]
    fn ids_of_root_map_to_themselves_except_the_last() {
        assert_eq!(super::identity_map("         0          0 4294967295\n"), "0 0 4294967294\n");
        assert_eq!(super::identity_map("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }
}

//! The functions in Mix's `steps:`. They are called by one Elixir, which waits while the release is assembled.
//!
//! `ask/steps.exs` is the other side, and says how the two talk: through a pipe for each direction.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use dram_image::TreePath;
use dram_release::term::Term;
use rustix::fs::{CWD, FileType, Mode};

use crate::answer::{AnswerMap, path, text};
use crate::assemble::ReleaseAssembly;
use crate::project_query::{BuildTool, ProjectPaths, QueryScript, answer_map, decode_answer, lock_cache_dir};
use crate::tree::{ReleaseEntry, ReleaseFileContent, ReleaseTree, restricted_mode};
use crate::{AssembleError, AssembleRequest};

/// The progress of the steps of a release.
#[derive(Debug)]
pub(crate) enum StepReport {
    /// `:tar` is next: the archive is to be written.
    Archive(ReleaseAfterSteps),
    /// No step is left.
    Done(ReleaseAfterSteps),
}

/// The result of the steps for a release that is on the disk.
#[derive(Debug)]
pub(crate) struct ReleaseAfterSteps {
    /// The directory of the release.
    pub(crate) path: PathBuf,
    /// The files and directories that belong to it, as Mix sees it. They need not exist.
    pub(crate) kept: Vec<TreePath>,
}

/// The Elixir that calls the steps. When it is dropped, Elixir ends.
#[derive(Debug)]
pub(crate) struct StepSession {
    orders: Option<File>,
    reports: BufReader<File>,
    tool: Option<JoinHandle<Result<(), AssembleError>>>,
    answers: QueryScript,
    /// Another process would use the same pipes.
    _lock: File,
}

impl StepSession {
    /// Starts Elixir, calls the steps before `:assemble`, and returns the answer of the query as they left it. The
    /// version of the release is `version`.
    ///
    /// # Errors
    /// Fails if Elixir cannot be started, or a step fails.
    pub(crate) fn start(
        request: &AssembleRequest,
        places: &ProjectPaths,
        version: &str,
    ) -> Result<(StepSession, Term), AssembleError> {
        let lock = lock_cache_dir(&places.cache_dir)?;
        let request_of_version = AssembleRequest { version: Some(version.to_owned()), ..request.clone() };
        let script = QueryScript::new(&request_of_version, places, BuildTool::Mix)?;
        let answers = QueryScript::new(&request_of_version, places, BuildTool::Mix)?;
        let (orders, reports) = (open_pipe(&script.dir.join("orders"))?, open_pipe(&script.dir.join("reports"))?);
        let mut end = reports.try_clone().map_err(AssembleError::io("open", script.dir.join("reports")))?;
        let mut options = vec!["--steps".into(), script.dir.clone().into()];
        options.extend(request.output.iter().flat_map(|output| ["--path".into(), output.clone().into()]));
        let tools = request.tools.clone();
        let tool = thread::spawn(move || {
            let ended = script.run(&tools, &options);
            // This end of the pipe is open too, so the reader would wait for ever.
            let _ = end.write_all(b"ended\n");
            ended
        });
        let reports = BufReader::new(reports);
        let mut session = StepSession { orders: Some(orders), reports, tool: Some(tool), answers, _lock: lock };
        let (_, answer) = session.next_report()?;
        Ok((session, answer))
    }

    /// Calls the steps up to the next one that is not a function.
    ///
    /// # Errors
    /// Fails if a step fails, or ends Elixir.
    pub(crate) fn proceed(&mut self) -> Result<StepReport, AssembleError> {
        if let Some(orders) = &mut self.orders {
            // If Elixir has ended, the report says so.
            let _ = orders.write_all(b"\n");
        }
        let (word, answer) = self.next_report()?;
        let map = AnswerMap::from_term("steps", answer_map(&answer)?)?;
        let kept = map.list("kept")?.iter().filter_map(text).filter_map(|kept| TreePath::parse(kept.as_bytes()).ok());
        let result = ReleaseAfterSteps { path: map.required("path", path)?, kept: kept.collect() };
        match word.as_str() {
            "tar" => Ok(StepReport::Archive(result)),
            _ => {
                self.end()?;
                Ok(StepReport::Done(result))
            }
        }
    }

    fn next_report(&mut self) -> Result<(String, Term), AssembleError> {
        let mut line = String::new();
        let read = self.reports.read_line(&mut line);
        read.map_err(AssembleError::io("read", self.answers.dir.join("reports")))?;
        if line.trim_end() == "ended" {
            self.end()?;
            let message = "a step ended Erlang, and the steps after it were not called".to_owned();
            return Err(AssembleError::Project { file: Some("mix.exs".to_owned()), line: None, message });
        }
        let answer = decode_answer(&self.answers.take_answer()?)?;
        Ok((line.trim_end().to_owned(), answer))
    }

    /// Waits for the end of Elixir.
    fn end(&mut self) -> Result<(), AssembleError> {
        drop(self.orders.take());
        self.tool.take().map_or(Ok(()), |tool| tool.join().expect("a panic in this thread is a bug"))
    }
}

impl Drop for StepSession {
    fn drop(&mut self) {
        // The error that the caller has is the first one.
        let _ = self.end();
        for pipe in ["orders", "reports"] {
            let _ = fs::remove_file(self.answers.dir.join(pipe));
        }
    }
}

/// Creates a named pipe and opens both of its ends, so that nobody waits for the other side to open it.
fn open_pipe(path: &Path) -> Result<File, AssembleError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(AssembleError::io("remove", path)(error));
        }
        Ok(()) | Err(_) => {}
    }
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .map_err(|error| AssembleError::io("make the pipe", path)(error.into()))?;
    OpenOptions::new().read(true).write(true).open(path).map_err(AssembleError::io("open", path))
}

/// Returns true if the answer has a release with functions among its steps.
pub(crate) fn has_functions(answer: AnswerMap<'_>) -> Result<bool, AssembleError> {
    for release in answer.list("releases")? {
        let steps = AnswerMap::from_term("release", release)?.list("steps")?;
        if steps.iter().any(|step| matches!(step, Term::Map(_))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Replaces the entries of the assembly by what is on the disk after the steps: its own files that are still there, and
/// everything that belongs to the release as Mix sees it. The list of files is written anew.
///
/// # Errors
/// Fails if the release cannot be read, or the list not written.
pub(crate) fn take_changes(assembly: &mut ReleaseAssembly, result: &ReleaseAfterSteps) -> Result<(), AssembleError> {
    let mut tree = ReleaseTree::default();
    read_entries(&mut tree, &assembly.tree, result)?;
    let list = assembly.manifest.clone();
    if tree.remove(&list).is_some() {
        crate::assemble::put_manifest(&mut tree, list.clone());
        if let Some(ReleaseEntry::File { content: ReleaseFileContent::Bytes(bytes), .. }) = tree.get(&list) {
            let to = result.path.join(list.as_path());
            fs::write(&to, bytes).map_err(AssembleError::io("write", &to))?;
        }
    }
    assembly.tree = tree;
    Ok(())
}

fn read_entries(tree: &mut ReleaseTree, old: &ReleaseTree, result: &ReleaseAfterSteps) -> Result<(), AssembleError> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut waiting = vec![TreePath::root()];
    while let Some(dir) = waiting.pop() {
        let from = result.path.join(dir.as_path());
        let mut is_empty = true;
        for found in fs::read_dir(&from).map_err(AssembleError::io("read", &from))? {
            let found = found.map_err(AssembleError::io("read", &from))?;
            is_empty = false;
            let (at, full) = (dir.join(found.file_name().as_bytes()), found.path());
            let status = fs::symlink_metadata(&full).map_err(AssembleError::io("read", &full))?;
            if status.is_dir() {
                waiting.push(at);
                continue;
            }
            let is_kept = is_kept(&at, result);
            let entry = match old.get(&at) {
                None if !is_kept => continue,
                _ if status.is_symlink() => {
                    let said = fs::read_link(&full).map_err(AssembleError::io("read", &full))?;
                    ReleaseEntry::Link(said.into_os_string().as_bytes().to_vec())
                }
                _ if !status.is_file() => {
                    let source = std::io::Error::other("it is neither a file nor a directory nor a link");
                    return Err(AssembleError::Io { verb: "take", path: full, source });
                }
                Some(ReleaseEntry::File { mode, .. }) if crate::write::has_mode(status.permissions().mode(), *mode) => {
                    ReleaseEntry::File { content: ReleaseFileContent::Disk(full), mode: *mode }
                }
                _ => {
                    let mode = restricted_mode(status.permissions().mode());
                    ReleaseEntry::File { content: ReleaseFileContent::Disk(full), mode }
                }
            };
            tree.put(at, entry);
        }
        if is_empty && (is_kept(&dir, result) || old.get(&dir).is_some()) {
            tree.put(dir, ReleaseEntry::Dir);
        }
    }
    Ok(())
}

/// Returns true if Mix counts `path` as part of the release: what it names, and all files in `releases` itself.
fn is_kept(path: &TreePath, result: &ReleaseAfterSteps) -> bool {
    let in_releases = path.parent().is_some_and(|dir| dir.as_bytes() == b"releases");
    in_releases || result.kept.iter().any(|kept| path.strip_prefix(kept).is_some())
}

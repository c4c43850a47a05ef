//! Finds the shared libraries of a program as its dynamic loader does: `ld.so(8)` of glibc, `ldso/dynlink.c` of musl.

use std::collections::{BTreeMap, VecDeque};

use dram_image::elf::ElfRequirements;
use dram_store::{StoreError, TreeNode};

use super::FaultReason;
use super::command_words::base_name;
use super::image_files::{FileAccess, ImageFile, ImageFiles, shown};
use super::library_cache::parse_library_cache;

/// The largest part of a loader that is read; those of glibc and musl have less than 1 MB.
const MAX_LOADER_BYTES: u64 = 8 << 20;
/// The largest `ld.so.cache` that is read.
const MAX_CACHE_BYTES: u64 = 16 << 20;
/// The largest number of libraries of a program that are looked at; real ones have tens.
const MAX_LIBRARIES: usize = 1024;

/// The default directories of glibc's loader on the usual distributions, for a loader that does not tell its own.
const GLIBC_DIRS: &[&str] = &["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// Subdirectories with libraries for newer processors.
const HWCAPS_DIRS: [&str; 4] = ["", "glibc-hwcaps/x86-64-v4/", "glibc-hwcaps/x86-64-v3/", "glibc-hwcaps/x86-64-v2/"];
const MUSL_DIRS: &[&str] = &["/lib", "/usr/local/lib", "/usr/lib"];
/// Libraries that are a part of musl's libc, whatever follows in their names.
const MUSL_OWN: &[&str] = &["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."];
/// Directories that people put libraries into and no loader searches by itself.
const OTHER_DIRS: &[&str] = &["/usr/local/lib", "/usr/local/lib64", "/usr/lib64", "/lib64", "/opt/lib"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoaderKind {
    Glibc,
    Musl,
    /// Nothing is known of its search, so that nothing is missed.
    Unknown,
}

/// A dynamic loader of the image.
#[derive(Debug)]
pub(super) struct DynamicLoader {
    kind: LoaderKind,
    /// The default directories.
    dirs: Vec<String>,
    /// The paths of libraries in `/etc/ld.so.cache`.
    cache: BTreeMap<String, Vec<String>>,
    /// Directories that come before all others, as with `--library-path`.
    pub(super) first_dirs: Vec<String>,
    /// Its names: of its file, and its own.
    names: Vec<String>,
}

/// A program or library that was loaded.
struct LoadedObject {
    path: String,
    needs: ElfRequirements,
    /// The object that needed it first.
    parent: Option<usize>,
}

/// The libraries of a program, and those that the image lacks.
#[derive(Debug, Default)]
pub(super) struct LoadedLibraries {
    /// The symbol versions that each loaded library defines, by its names.
    pub(super) names: BTreeMap<String, Vec<String>>,
    /// Libraries that were not found: the name, the file that needs it, and where a file of that name is.
    pub(super) missing: Vec<(String, String, Option<String>)>,
    /// Symbol versions that a library does not have: the version, the library, the file that needs it, the newest.
    old: Vec<(String, String, String, Option<String>)>,
}

impl LoadedLibraries {
    /// Returns a fault for each missing library and each library that is too old.
    pub(super) fn into_faults(self) -> Vec<FaultReason> {
        let missing = self.missing.into_iter().map(|(name, by, elsewhere)| {
            let fault = FaultReason::new(format!("`{by}` needs the library `{name}`, which the loader does not find"));
            match (elsewhere, debian_package(&name)) {
                (Some(dir), _) => fault
                    .note(format!("it is in `{dir}`, which is not searched"))
                    .help(format!("run `ldconfig` in the last stage, or set `ENV LD_LIBRARY_PATH={dir}`")),
                (None, Some(package)) => {
                    fault.help(format!("install it in the last stage (on Debian: `apt-get install {package}`)"))
                }
                (None, None) => fault.help("install it in the last stage, or copy it from the stage that has it"),
            }
        });
        let old = self.old.into_iter().map(|(version, library, by, newest)| {
            let has = newest.map(|newest| format!(" (it has `{newest}`)")).unwrap_or_default();
            FaultReason::new(format!("`{by}` needs `{version}` of `{library}`, which the image's is too old for{has}"))
                .help("build it on the release of the distribution that the last stage has, or use a newer base image")
        });
        missing.chain(old).collect()
    }
}

impl DynamicLoader {
    /// Reads the loader `path` of the image.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(super) fn read(files: &ImageFiles<'_>, path: &str, node: &TreeNode) -> Result<DynamicLoader, StoreError> {
        let bytes = files.read_start(node, MAX_LOADER_BYTES)?;
        let contains = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        let kind = match () {
            () if contains(b"/etc/ld-musl-") => LoaderKind::Musl,
            () if contains(b"/etc/ld.so.cache") => LoaderKind::Glibc,
            () => LoaderKind::Unknown,
        };
        let soname = files.read_elf(node)?.and_then(|elf| elf.soname);
        let real = shown(&node.path);
        let mut loader = DynamicLoader {
            kind,
            dirs: Vec::new(),
            cache: BTreeMap::new(),
            first_dirs: split_dirs(files.env_value("LD_LIBRARY_PATH").unwrap_or_default()),
            names: [base_name(path), base_name(&real)].map(str::to_owned).into_iter().chain(soname).collect(),
        };
        match kind {
            LoaderKind::Glibc => {
                loader.dirs = glibc_dirs(&bytes);
                if let Some(cache) = files.readable("/etc/ld.so.cache")? {
                    match parse_library_cache(&files.read_start(&cache, MAX_CACHE_BYTES)?) {
                        Some(cache) => loader.cache = cache,
                        None => loader.kind = LoaderKind::Unknown,
                    }
                }
            }
            LoaderKind::Musl => loader.dirs = musl_dirs(files, path)?,
            LoaderKind::Unknown => {}
        }
        Ok(loader)
    }

    /// Finds all libraries of the program `path`.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(super) fn load(
        &self,
        files: &ImageFiles<'_>,
        path: &str,
        needs: &ElfRequirements,
    ) -> Result<LoadedLibraries, StoreError> {
        self.load_after(files, path, needs, &BTreeMap::new())
    }

    /// As [`DynamicLoader::load`], in a process that has loaded `before` already.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(super) fn load_after(
        &self,
        files: &ImageFiles<'_>,
        path: &str,
        needs: &ElfRequirements,
        before: &BTreeMap<String, Vec<String>>,
    ) -> Result<LoadedLibraries, StoreError> {
        let mut found = LoadedLibraries { names: before.clone(), ..LoadedLibraries::default() };
        if self.kind == LoaderKind::Unknown {
            return Ok(found);
        }
        // The loader is in memory before everything else. It may define versions, which are not read.
        found.names.extend(self.names.iter().map(|name| (name.clone(), Vec::new())));
        let mut objects = vec![LoadedObject { path: path.to_owned(), needs: needs.clone(), parent: None }];
        let mut waiting = VecDeque::from([0]);
        while let Some(at) = waiting.pop_front() {
            for name in objects[at].needs.libraries.clone() {
                let is_own = self.kind == LoaderKind::Musl && MUSL_OWN.iter().any(|own| name.starts_with(own));
                if is_own || found.names.contains_key(&name) || objects.len() >= MAX_LIBRARIES {
                    continue;
                }
                found.names.insert(name.clone(), Vec::new());
                match self.find_library(files, &name, &objects, at)? {
                    Some((path, needs)) => {
                        let names = [Some(name), needs.soname.clone()].into_iter().flatten();
                        found.names.extend(names.map(|name| (name, needs.defined_versions.clone())));
                        objects.push(LoadedObject { path, needs, parent: Some(at) });
                        waiting.push_back(objects.len() - 1);
                    }
                    None => {
                        let elsewhere = library_elsewhere(files, &name)?;
                        found.missing.push((name, objects[at].path.clone(), elsewhere));
                    }
                }
            }
        }
        // musl knows no versions.
        if self.kind == LoaderKind::Glibc {
            found.old = objects.iter().flat_map(|object| missing_versions(object, &found.names)).collect();
        }
        Ok(found)
    }

    /// Finds the library `name` that the object `at` needs.
    fn find_library(
        &self,
        files: &ImageFiles<'_>,
        name: &str,
        objects: &[LoadedObject],
        at: usize,
    ) -> Result<Option<(String, ElfRequirements)>, StoreError> {
        let machine = objects[0].needs.machine;
        let read = |path: &str| -> Result<Option<ElfRequirements>, StoreError> {
            let Some(node) = files.readable(path)? else { return Ok(None) };
            // A library for another processor is passed over.
            Ok(files.read_elf(&node)?.filter(|elf| elf.machine == machine && elf.is_loadable))
        };
        let mut paths: Vec<String> = Vec::new();
        if name.contains('/') {
            paths.extend(self.expand(files, name, &objects[at])?);
        } else {
            let in_dir = |dir: &String| HWCAPS_DIRS.map(|caps| format!("{}/{caps}{name}", dir.trim_end_matches('/')));
            paths.extend(self.search_dirs(files, objects, at)?.iter().flat_map(in_dir));
            if !objects[at].needs.no_default_dirs {
                paths.extend(self.cache.get(name).into_iter().flatten().cloned());
                paths.extend(self.dirs.iter().flat_map(in_dir));
            }
        }
        for path in paths {
            if let Some(needs) = read(&path)? {
                return Ok(Some((path, needs)));
            }
        }
        Ok(None)
    }

    /// Returns the directories in which the libraries of the object `at` are searched, in their order.
    fn search_dirs(
        &self,
        files: &ImageFiles<'_>,
        objects: &[LoadedObject],
        at: usize,
    ) -> Result<Vec<String>, StoreError> {
        let own = &objects[at];
        let mut dirs = Vec::new();
        let (mut inherited, mut next) = (Vec::new(), Some(at));
        while let Some(object) = next.map(|at| &objects[at]) {
            // musl treats both kinds of search paths alike.
            if object.needs.search_is_inherited || self.kind == LoaderKind::Musl {
                for path in &object.needs.search {
                    inherited.extend(self.expand(files, path, object)?);
                }
            }
            next = object.parent;
        }
        if own.needs.search_is_inherited {
            dirs.append(&mut inherited);
        }
        dirs.extend(self.first_dirs.iter().cloned());
        for path in &own.needs.search {
            dirs.extend(self.expand(files, path, own)?);
        }
        dirs.append(&mut inherited.into_iter().filter(|_| self.kind == LoaderKind::Musl).collect());
        Ok(dirs)
    }

    /// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM` in a search path of `object`. The result has several paths where the
    /// value depends on the loader.
    fn expand(&self, files: &ImageFiles<'_>, path: &str, object: &LoadedObject) -> Result<Vec<String>, StoreError> {
        let is = |name: &str| path.contains(&format!("${name}")) || path.contains(&format!("${{{name}}}"));
        let replace = |path: &str, name: &str, value: &str| {
            path.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
        };
        let mut paths = vec![path.to_owned()];
        if is("ORIGIN") {
            let mut origins = vec![object.path.clone()];
            if let ImageFile::Found(node) = files.find(&object.path, FileAccess::Exist)? {
                origins.push(shown(&node.path));
            }
            let dir = |file: &String| file.rsplit_once('/').map_or_else(String::new, |(dir, _)| dir.to_owned());
            paths = origins.iter().map(|file| replace(path, "ORIGIN", &dir(file))).collect();
        }
        if is("LIB") {
            let libs = ["lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"];
            paths = paths.iter().flat_map(|path| libs.map(|lib| replace(path, "LIB", lib))).collect();
        }
        if is("PLATFORM") {
            let all = ["x86_64", "haswell", "aarch64"];
            paths = paths.iter().flat_map(|path| all.map(|platform| replace(path, "PLATFORM", platform))).collect();
        }
        Ok(paths)
    }
}

fn split_dirs(text: &str) -> Vec<String> {
    text.split([':', ';']).filter(|dir| !dir.is_empty()).map(str::to_owned).collect()
}

/// Returns the default directories of a loader of glibc: strings in it that begin and end with a slash.
fn glibc_dirs(bytes: &[u8]) -> Vec<String> {
    let is_dir = |text: &&[u8]| {
        (5..256).contains(&text.len())
            && text.starts_with(b"/")
            && text.ends_with(b"/")
            && text.iter().all(u8::is_ascii_graphic)
            && text.windows(4).any(|part| part == b"/lib")
    };
    let mut dirs: Vec<String> =
        bytes.split(|byte| *byte == 0).filter(is_dir).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    if dirs.is_empty() {
        dirs.extend(GLIBC_DIRS.iter().map(|dir| (*dir).to_owned()));
    }
    dirs.dedup();
    dirs
}

/// Returns the directories that musl's loader searches: those of `/etc/ld-musl-ARCH.path`, or its defaults.
fn musl_dirs(files: &ImageFiles<'_>, loader: &str) -> Result<Vec<String>, StoreError> {
    let name = base_name(loader).trim_end_matches(".so.1");
    match files.readable(&format!("/etc/{name}.path"))? {
        Some(node) => {
            let text = files.read_start(&node, 64 << 10)?;
            let text = String::from_utf8_lossy(&text);
            let dirs = text.split([':', '\n', '\r', ' ', '\t']).map(str::trim);
            Ok(dirs.filter(|dir| !dir.is_empty()).map(str::to_owned).collect())
        }
        None => Ok(MUSL_DIRS.iter().map(|dir| (*dir).to_owned()).collect()),
    }
}

/// Returns the symbol versions that `object` needs and the loaded libraries do not have. A library without versions is
/// accepted by the loader.
fn missing_versions(
    object: &LoadedObject,
    names: &BTreeMap<String, Vec<String>>,
) -> Vec<(String, String, String, Option<String>)> {
    let lacks = |(library, version): &(String, String)| {
        let defined = names.get(library).filter(|defined| !defined.is_empty())?;
        if defined.contains(version) {
            return None;
        }
        let prefix = version.split('_').next().unwrap_or_default();
        let newest = defined.iter().filter(|one| one.split('_').next() == Some(prefix)).max_by_key(|one| numbers(one));
        Some((version.clone(), library.clone(), object.path.clone(), newest.cloned()))
    };
    object.needs.versions.iter().filter_map(lacks).take(1).collect()
}

/// Returns the numbers of a version such as `GLIBC_2.34`.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Returns a directory that has the library and is not searched.
fn library_elsewhere(files: &ImageFiles<'_>, name: &str) -> Result<Option<String>, StoreError> {
    for dir in OTHER_DIRS {
        if files.readable(&format!("{dir}/{name}"))?.is_some() {
            return Ok(Some((*dir).to_owned()));
        }
    }
    Ok(None)
}

/// The Debian package of a library that releases and their native code often need.
fn debian_package(library: &str) -> Option<&'static str> {
    let table = [
        ("libcrypto.so.3", "libssl3"),
        ("libssl.so.3", "libssl3"),
        ("libtinfo.so.6", "libtinfo6"),
        ("libncursesw.so.6", "libncursesw6"),
        ("libstdc++.so.6", "libstdc++6"),
        ("libgcc_s.so.1", "libgcc-s1"),
        ("libz.so.1", "zlib1g"),
        ("libsctp.so.1", "libsctp1"),
        ("libsqlite3.so.0", "libsqlite3-0"),
        ("libpq.so.5", "libpq5"),
        ("libyaml-0.so.2", "libyaml-0-2"),
        ("libexpat.so.1", "libexpat1"),
        ("libffi.so.8", "libffi8"),
        ("libsystemd.so.0", "libsystemd0"),
    ];
    table.iter().find(|(name, _)| *name == library).map(|(_, package)| *package)
}

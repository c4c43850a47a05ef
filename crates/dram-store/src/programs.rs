//! The programs and shared libraries of a layer. The layer is scanned once and the result is recorded.

use std::io::Read as _;

use dram_image::TreePath;
use dram_image::elf;
use serde::{Deserialize, Serialize};

use crate::file::{self, Durable};
use crate::scan::scan;
use crate::{Dir, FileKind, LayerId, Layers, Store, StoreError};

/// A larger file is not parsed: programs of this size usually contain their libraries.
const LARGEST_PROGRAM: u64 = 64 << 20;
/// The size of a record with tens of thousands of programs.
const LARGEST_RECORD: u64 = 32 << 20;

/// The shared libraries that one layer provides, and its programs with the libraries that they need.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Programs {
    /// Names of files that a dynamic loader may look for: those that contain `.so`.
    pub libraries: Vec<String>,
    /// The ELF files that need a loader or libraries.
    pub programs: Vec<Program>,
}

/// An ELF file with its dynamic dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its path, without the leading slash; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its dynamic loader.
    pub interpreter: Option<String>,
    /// The libraries it needs.
    pub libraries: Vec<String>,
}

impl Layers<'_> {
    /// The programs and libraries of the layer `id`.
    ///
    /// # Errors
    /// When the layer is missing, or on an I/O error.
    pub fn programs(self, id: &LayerId) -> Result<Programs, StoreError> {
        let store = self.store();
        let record = store.join("packs").join(format!("{id}.elf"));
        let known = file::read_small(&record, LARGEST_RECORD).ok().flatten();
        if let Some(programs) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(programs);
        }
        let programs = look(&Dir::open_layer(&self.path(id))?)?;
        remember(store, &record, &programs);
        Ok(programs)
    }
}

/// Records the programs. Failure is ignored: the next build scans the layer again.
fn remember(store: &Store, record: &std::path::Path, programs: &Programs) {
    let bytes = serde_json::to_vec(programs).expect("plain data becomes JSON");
    let _ = file::replace(record, &bytes, &store.work().path(), Durable::No);
}

fn look(layer: &Dir) -> Result<Programs, StoreError> {
    let mut programs = Programs::default();
    scan(layer, &mut |found| {
        let name = String::from_utf8_lossy(found.path.name().unwrap_or_default()).into_owned();
        let is_library = name.contains(".so");
        if is_library && matches!(found.status.kind, FileKind::File | FileKind::Symlink) {
            programs.libraries.push(name);
        }
        let is_program = found.status.kind == FileKind::File && (is_library || found.status.mode & 0o111 != 0);
        if is_program && found.link_to.is_none() && found.status.size <= LARGEST_PROGRAM {
            programs.programs.extend(program(layer, &found.path)?);
        }
        Ok(())
    })?;
    Ok(programs)
}

fn program(layer: &Dir, path: &TreePath) -> Result<Option<Program>, StoreError> {
    let fail = || StoreError::io("read", &layer.shown().join(path.as_path()));
    let mut file = layer.open_file(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(4).read_to_end(&mut bytes).map_err(fail())?;
    if bytes != *b"\x7fELF" {
        return Ok(None);
    }
    file.take(LARGEST_PROGRAM).read_to_end(&mut bytes).map_err(fail())?;
    let Some(needs) = elf::needs(&bytes) else { return Ok(None) };
    if needs.interpreter.is_none() && needs.libraries.is_empty() {
        return Ok(None);
    }
    let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
    Ok(Some(Program { path, interpreter: needs.interpreter, libraries: needs.libraries }))
}

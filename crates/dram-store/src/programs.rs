//! The programs and shared libraries of a layer. The layer is scanned once and the result is recorded.

use std::io::Read as _;

use dram_image::TreePath;
use dram_image::elf;
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, Durability};
use crate::layer_scan::scan_layer;
use crate::{Dir, FileKind, LayerId, Layers, Store, StoreError};

/// A larger file is not parsed: programs of this size usually contain their libraries.
const MAX_PROGRAM_BYTES: u64 = 64 << 20;
/// The size of a record with tens of thousands of programs.
const MAX_PROGRAMS_RECORD_BYTES: u64 = 32 << 20;

/// The shared libraries that one layer provides, and its programs with the libraries that they need.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerPrograms {
    /// Names of files that a dynamic loader may look for: those that contain `.so`.
    pub libraries: Vec<String>,
    /// The ELF files that need a loader or libraries.
    pub programs: Vec<DynamicElfFile>,
}

/// An ELF file with its dynamic dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicElfFile {
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
    pub fn programs(self, id: &LayerId) -> Result<LayerPrograms, StoreError> {
        let store = self.store();
        let record = store.join("packs").join(format!("{id}.elf"));
        let known = atomic_file::read_limited(&record, MAX_PROGRAMS_RECORD_BYTES).ok().flatten();
        if let Some(programs) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(programs);
        }
        let programs = scan_programs(&Dir::open_layer(&self.path(id))?)?;
        write_programs_record(store, &record, &programs);
        Ok(programs)
    }
}

/// Records the programs. Failure is ignored: the next build scans the layer again.
fn write_programs_record(store: &Store, record: &std::path::Path, programs: &LayerPrograms) {
    let bytes = serde_json::to_vec(programs).expect("plain data becomes JSON");
    let work = store.work_dir().path();
    let _ = atomic_file::write_atomic(record, &bytes, MAX_PROGRAMS_RECORD_BYTES, &work, Durability::Unsynced);
}

fn scan_programs(layer: &Dir) -> Result<LayerPrograms, StoreError> {
    let mut programs = LayerPrograms::default();
    scan_layer(layer, &mut |found| {
        let name = String::from_utf8_lossy(found.path.name().unwrap_or_default()).into_owned();
        let is_library = name.contains(".so");
        if is_library && matches!(found.status.kind, FileKind::File | FileKind::Symlink) {
            programs.libraries.push(name);
        }
        let is_program = found.status.kind == FileKind::File && (is_library || found.status.mode & 0o111 != 0);
        if is_program && found.link_to.is_none() && found.status.size <= MAX_PROGRAM_BYTES {
            programs.programs.extend(read_program(layer, &found.path)?);
        }
        Ok(())
    })?;
    Ok(programs)
}

fn read_program(layer: &Dir, path: &TreePath) -> Result<Option<DynamicElfFile>, StoreError> {
    let fail = || StoreError::io("read", &layer.display_path().join(path.as_path()));
    let mut file = layer.open_file(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(4).read_to_end(&mut bytes).map_err(fail())?;
    if bytes != *b"\x7fELF" {
        return Ok(None);
    }
    file.take(MAX_PROGRAM_BYTES).read_to_end(&mut bytes).map_err(fail())?;
    let Some(needs) = elf::read_requirements(&bytes) else { return Ok(None) };
    if needs.interpreter.is_none() && needs.libraries.is_empty() {
        return Ok(None);
    }
    let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
    Ok(Some(DynamicElfFile { path, interpreter: needs.interpreter, libraries: needs.libraries }))
}

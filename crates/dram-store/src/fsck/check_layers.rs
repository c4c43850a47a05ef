//! Verifies extracted layers: each is compared with its id, or with its blob.

use std::fs;
use std::path::{Path, PathBuf};

use super::FsckRun;
use super::check_records::list_children;
use super::check_root::kind_name;
use crate::verify::{ComparedTar, LayerComparison, LayerOrigins};
use crate::{IdMapping, LayerId, StoreError, atomic_file, ownership, parent_deps};

/// Description of the repair of a layer.
const REMAKE_REPAIR: &str = "it is removed, and made again when it is wanted";

impl FsckRun<'_> {
    /// Verifies the layers of processes with the id mapping `rights`. Only those with the mapping of this process can
    /// be compared.
    pub(super) fn check_layers(&mut self, id_mapping: IdMapping) -> Result<(), StoreError> {
        let at = self.store.subdir_of(id_mapping, "layers");
        if !at.is_dir() {
            return Ok(());
        }
        let all = self.list_layers(&at)?;
        self.report.layers += all.len();
        if id_mapping == self.store.id_mapping() {
            let (made, unpacked) = all.into_iter().partition(|(id, _)| id.is_content_addressed());
            self.check_content_layers(made);
            self.check_unpacked_layers(unpacked);
        } else if !all.is_empty() {
            self.report_skipped(&at, "its layers are not verified: only a user with the same id mapping can read them");
        }
        Ok(())
    }

    fn list_layers(&mut self, at: &Path) -> Result<Vec<(LayerId, PathBuf)>, StoreError> {
        let mut all = Vec::new();
        for (name, path) in list_children(at)? {
            let (id, is_table) = match name.strip_suffix(".owners") {
                Some(name) => (name.parse::<LayerId>(), true),
                None => (name.parse::<LayerId>(), false),
            };
            let meta = fs::symlink_metadata(&path);
            match (id, meta) {
                (Ok(_), Ok(meta)) if is_table && meta.is_file() => {}
                (Ok(id), Ok(meta)) if !is_table && meta.is_dir() => all.push((id, path)),
                (Ok(_), Ok(meta)) => {
                    let what = format!("in a layer's place is {}", kind_name(&meta));
                    self.report_finding(&path, what, "making the layer again", "it is moved to lost/", |check| {
                        check.move_to_lost(&path)
                    });
                }
                (Err(_), Ok(_)) => self.report_unknown(&path),
                (_, Err(_)) => {}
            }
        }
        Ok(all)
    }

    /// Layers of executed steps are named by their content.
    fn check_content_layers(&mut self, made: Vec<(LayerId, PathBuf)>) {
        let (store, id_mapping) = (self.store, self.store.id_mapping());
        let good = self.map_parallel(&made, |(id, path)| store.layer_matches_id(id, id_mapping) || !path.exists());
        for ((id, path), _) in made.into_iter().zip(good).filter(|(_, good)| !good) {
            let what = "the content of the unpacked layer does not match its id";
            self.report_finding(&path, what, "the step that made it", REMAKE_REPAIR, |check| {
                check.store.remove_damaged_layer(&id)
            });
        }
    }

    /// The other layers are named by their diff ID. They are compared one by one, because each is extracted again and
    /// needs its size on the disk.
    fn check_unpacked_layers(&mut self, unpacked: Vec<(LayerId, PathBuf)>) {
        if unpacked.is_empty() {
            return;
        }
        let origins = LayerOrigins::scan_store(self.store);
        for (id, path) in unpacked {
            match origins.compare(self.store.layers(), &id) {
                LayerComparison::Same(compared) => self.check_layer_records(&id, &compared),
                // Another process removed it meanwhile.
                LayerComparison::Changed(_) | LayerComparison::Unknown(_) if !path.exists() => {}
                LayerComparison::Changed(difference) => {
                    let what = format!("the unpacked layer differs from its blob: {difference}");
                    let cost = "unpacking it again, and `--no-cache` for what was built upon it meanwhile";
                    self.report_finding(&path, what, cost, REMAKE_REPAIR, |check| {
                        check.store.remove_damaged_layer(&id)
                    });
                }
                LayerComparison::Unknown(why) => {
                    self.report_skipped(&path, &format!("the unpacked layer is not verified: {why}"));
                }
            }
        }
    }

    /// Compares the records of a layer's tar with the tar.
    fn check_layer_records(&mut self, id: &LayerId, compared: &ComparedTar) {
        let (Some(diff_id), layers) = (id.diff_id(), self.store.layers()) else { return };
        let size = layers.size_record_path(&diff_id);
        let recorded = atomic_file::read_limited(&size, 64).ok().flatten();
        let recorded = recorded.and_then(|text| std::str::from_utf8(&text).ok()?.parse::<u64>().ok());
        if let Some(recorded) = recorded.filter(|recorded| *recorded != compared.tar_length) {
            let what = format!("it says {recorded} bytes of a tar that has {}", compared.tar_length);
            self.report_finding(
                &size,
                what,
                "a wrong size in lists of images",
                "it is removed, and made again when it is wanted",
                |_| ownership::remove_table(&size),
            );
        }
        let record = layers.parent_deps_record_path(&diff_id);
        if parent_deps::read_parent_deps(&record).is_ok_and(|recorded| recorded != compared.parent_deps) {
            let what = "it does not list the entries that depend on the layers below";
            let cost = "the owners and modes of directories that layers share";
            self.report_finding(&record, what, cost, "it is written anew", |check| {
                ownership::remove_table(&record)?;
                parent_deps::write_parent_deps(&record, &compared.parent_deps, check.store)
            });
        }
    }
}

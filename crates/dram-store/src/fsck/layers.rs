//! Verifies extracted layers: each is compared with its id, or with its blob.

use std::fs;
use std::path::{Path, PathBuf};

use super::Check;
use super::frame::kind;
use super::rooms::children;
use crate::again::{Learned, Origins, Verdict};
use crate::{LayerId, Rights, StoreError, beside, file, over};

/// Description of the repair of a layer.
const AGAIN: &str = "it is removed, and made again when it is wanted";

impl Check<'_> {
    /// Verifies the layers of processes with the id mapping `rights`. Only those with the mapping of this process can
    /// be compared.
    pub(super) fn layers(&mut self, rights: Rights) -> Result<(), StoreError> {
        let at = self.store.shelf_of(rights, "layers");
        if !at.is_dir() {
            return Ok(());
        }
        let all = self.layers_at(&at)?;
        self.checked.layers += all.len();
        if rights == self.store.rights() {
            let (made, unpacked) = all.into_iter().partition(|(id, _)| id.is_by_content());
            self.made(made);
            self.unpacked(unpacked);
        } else if !all.is_empty() {
            self.skip(&at, "its layers are not compared: only a dram that runs as those who made them can");
        }
        Ok(())
    }

    fn layers_at(&mut self, at: &Path) -> Result<Vec<(LayerId, PathBuf)>, StoreError> {
        let mut all = Vec::new();
        for (name, path) in children(at)? {
            let (id, is_table) = match name.strip_suffix(".owners") {
                Some(name) => (name.parse::<LayerId>(), true),
                None => (name.parse::<LayerId>(), false),
            };
            let meta = fs::symlink_metadata(&path);
            match (id, meta) {
                (Ok(_), Ok(meta)) if is_table && meta.is_file() => {}
                (Ok(id), Ok(meta)) if !is_table && meta.is_dir() => all.push((id, path)),
                (Ok(_), Ok(meta)) => {
                    let what = format!("in a layer's place is {}", kind(&meta));
                    self.find(&path, what, "making the layer again", "it is moved to lost/", |check| check.lose(&path));
                }
                (Err(_), Ok(_)) => self.unknown(&path),
                (_, Err(_)) => {}
            }
        }
        Ok(all)
    }

    /// Layers of executed steps are named by their content.
    fn made(&mut self, made: Vec<(LayerId, PathBuf)>) {
        let (store, rights) = (self.store, self.store.rights());
        let good = self.each(&made, |(id, path)| store.is_what_it_says(id, rights) || !path.exists());
        for ((id, path), _) in made.into_iter().zip(good).filter(|(_, good)| !good) {
            let what = "the unpacked layer does not hold what its name says";
            self.find(&path, what, "the step that made it", AGAIN, |check| check.store.remove_damaged(&id));
        }
    }

    /// The other layers are named by their diff ID. They are compared one by one, because each is extracted again and
    /// needs its size on the disk.
    fn unpacked(&mut self, unpacked: Vec<(LayerId, PathBuf)>) {
        if unpacked.is_empty() {
            return;
        }
        let origins = Origins::of(self.store);
        for (id, path) in unpacked {
            match origins.compare(self.store.layers(), &id) {
                Verdict::Same(learned) => self.notes(&id, &learned),
                // Another process removed it meanwhile.
                Verdict::Changed(_) | Verdict::Unknown(_) if !path.exists() => {}
                Verdict::Changed(how) => {
                    let what = format!("the unpacked layer is not what its blob holds: {how}");
                    let cost = "unpacking it again, and `--no-cache` for what was built upon it meanwhile";
                    self.find(&path, what, cost, AGAIN, |check| check.store.remove_damaged(&id));
                }
                Verdict::Unknown(why) => self.skip(&path, &format!("the unpacked layer is not compared: {why}")),
            }
        }
    }

    /// Compares the records of a layer's tar with the tar.
    fn notes(&mut self, id: &LayerId, learned: &Learned) {
        let (Some(diff_id), layers) = (id.diff_id(), self.store.layers()) else { return };
        let size = layers.size_record(&diff_id);
        let said = file::read_small(&size, 64).ok().flatten();
        let said = said.and_then(|text| std::str::from_utf8(&text).ok()?.parse::<u64>().ok());
        if let Some(said) = said.filter(|said| *said != learned.length) {
            let what = format!("it says {said} bytes of a tar that has {}", learned.length);
            self.find(
                &size,
                what,
                "a wrong size in lists of images",
                "it is removed, and made again when it is wanted",
                |_| beside::remove(&size),
            );
        }
        let leans = layers.leans_record(&diff_id);
        if over::recall(&leans).is_ok_and(|said| said != learned.leans) {
            let what = "it does not say what of the layer depends on those below it";
            let cost = "the owners and modes of directories that layers share";
            self.find(&leans, what, cost, "it is written anew", |check| {
                beside::remove(&leans)?;
                over::remember(&leans, &learned.leans, check.store)
            });
        }
    }
}

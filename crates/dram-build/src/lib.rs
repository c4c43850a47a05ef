//! Executes a build plan and writes the image: plan → snapshots → image → outputs.
//!
//! [`build`] executes a [`dram_dockerfile::Plan`]: each step is a function from snapshots to a snapshot, cached under a
//! cache key that covers all its inputs. [`write_image`] makes an image of a snapshot; only then is a layer packed and
//! compressed, and only if it is a layer of that image. [`import_tar`] makes an image from a tar,
//! [`transfer::copy_image`] moves whole images in and out, and [`container`] starts a command in an image. The results
//! of steps can be shared with other machines through a [`shared_cache`].

mod brought;
mod build;
mod cancel;
mod check;
mod command;
pub mod container;
mod content;
mod context;
mod copy;
mod error;
mod event;
mod export;
mod given;
mod import;
mod key;
mod lacks;
mod layer;
mod options;
mod outside;
mod packing;
mod parts;
mod pick;
mod remotes;
mod run;
mod seal;
mod select;
pub mod shared;
mod snapshot;
mod squash;
mod step;
mod time;
pub mod transfer;
pub mod users;
pub mod why;
mod workdir;

pub use build::build;
pub use cancel::Cancel;
pub use check::check;
pub use context::Context;
pub use error::BuildError;
pub use event::{Event, StepAt};
pub use export::{ExportError, export_dir, export_tar};
pub use given::{Given, Secret};
pub use import::import;
pub use lacks::{Lack, lacks};
pub use options::Options;
pub use outside::{Image, Outside};
pub use packing::Compress;
pub use remotes::{FetchedFile, FetchedTree, RemoteError, Remotes};
pub use run::failed::{FailedCommand, Revived};
pub use seal::{Dialect, Sealed, Sealing, seal};
pub use shared::Shared;
pub use snapshot::{Layer, Snapshot};
pub use squash::squash;
pub use time::rfc3339;
pub use transfer::{Archive, Loaded, TransferError, load, save_archive, save_layout};
pub use why::{Place, Why};

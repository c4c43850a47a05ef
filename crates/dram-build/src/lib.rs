//! Executes a build plan and writes the image: plan → snapshots → image → outputs.
//!
//! [`request::run_build`] makes everything that a request asks for. [`build`] executes a [`dram_plan::Plan`]: each step is
//! a function from snapshots to a snapshot, cached under a cache key that covers all its inputs. [`write_image()`] makes an
//! image of a snapshot; only then is a layer packed and compressed, and only if it is a layer of that image.
//! [`import_tar()`] makes an image from a tar,
//! [`transfer::copy_image`] moves whole images in and out, and [`container`] starts a command in an image. The results
//! of steps can be shared with other machines through a [`shared_cache`].

mod build_context;
mod build_options;
mod cache_key;
mod cache_key_parts;
mod cancel_token;
mod command_check;
mod command_options;
mod compress_layer;
pub mod container;
mod content_digest;
mod error;
mod error_report;
mod event;
mod execute_copy;
mod execute_run;
mod execute_workdir;
mod executor;
mod export;
mod fetched_source;
mod filtered_tree;
mod import_tar;
mod layer_provider;
#[cfg(test)]
mod layer_provider_tests;
#[cfg(test)]
mod layer_time_tests;
mod layer_writer;
#[cfg(test)]
mod layer_writer_tests;
mod linked_dirs;
mod local_executor;
mod parallel;
mod remote_fetcher;
pub mod request;
mod resolved_input;
mod run;
mod scheduler;
#[cfg(test)]
mod scheduler_tests;
mod select_sources;
pub mod shared_cache;
mod snapshot;
mod squash;
mod stage_board;
mod step_location;
mod step_runner;
mod temp_dir;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod users;
mod verify_store;
pub mod why;
mod write_image;
#[cfg(test)]
mod write_image_tests;

pub use build_context::BuildContext;
pub use build_options::BuildOptions;
pub use cancel_token::CancelToken;
pub use command_options::{CommandOptions, SecretValue};
pub use compress_layer::LayerCompression;
pub use error::BuildError;
pub use event::{BuildEvent, StepPosition};
pub use executor::{ExecuteEvent, ExecuteOp, ExecuteRequest, ExecutedStep, Executor, ResourceUsage};
pub use export::{ExportError, export_dir, export_tar};
pub use import_tar::import_tar;
pub use layer_provider::{LayerError, LayerProvider};
pub use local_executor::LocalExecutor;
pub use remote_fetcher::{FetchedFile, FetchedTree, RemoteError, RemoteErrorKind, RemoteFetcher};
pub use resolved_input::{Image, ResolvedInput};
pub use run::failed_command::{FailedCommand, RevivedCommand};
pub use scheduler::build;
pub use shared_cache::SharedCaches;
pub use snapshot::{Layer, Snapshot, SnapshotStep};
pub use squash::squash;
pub use transfer::{ArchiveFormat, LoadedImage, TransferError, load_images, save_archive, save_layout};
pub use verify_store::verify_store;
pub use why::{BuildId, CacheMiss};
pub use write_image::{BuiltImage, ImageFormat, ImageOptions, write_image};

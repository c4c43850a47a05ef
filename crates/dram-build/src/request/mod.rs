//! A build as one call: [`run_build`] takes a [`BuildRequest`] and returns a [`BuildResult`].
//!
//! The request is data. Everything that this crate may not do itself, such as access to registries, is given as
//! [`BuildServices`]. Everything that happens is a [`RequestEvent`]; nothing is printed here.

mod build_failure;
mod build_result;
mod cache_endpoints;
mod make_plan;
mod output;
mod run_build;
mod services;
mod write_outputs;

use std::collections::BTreeMap;
use std::sync::Arc;

use dram_dockerfile::ignore::IgnoreList;
use dram_dockerfile::{BuildSettings, PlatformSpec};
use dram_image::ImagePlatform;
use dram_sandbox::JailNetwork;

use crate::{BuildContext, BuildId, CommandOptions};

pub use build_failure::{BuildFailure, DiagnosedText, InputError};
pub use build_result::{
    BuildNote, BuildResult, OutputImage, OutputResult, PhaseDurations, RequestEvent, StepCounts, StepEnding,
};
pub use cache_endpoints::{CacheEndpoint, CacheExportRequest, CacheImportRequest};
pub use make_plan::{ResolvedStages, errors_of, has_errors, resolve_stages, stage_platform};
pub use output::{BuildOutput, FileOrStdout, ImageDestination, PushOptions};
pub use run_build::run_build;
pub use services::{BuildServices, InputFinder, OutputFileWriter, RegistryConnector, WriteContents};

/// A request to build an image from a Dockerfile. The pull policy is that of the [`InputFinder`]; annotations are those
/// of the outputs.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The Dockerfile.
    pub dockerfile: DockerfileText,
    /// The build context.
    pub context: BuildContext,
    /// The target stage; the last one when there is none.
    pub target: Option<String>,
    /// The build arguments.
    pub build_args: BTreeMap<String, String>,
    /// The named contexts: their names, and the values that the [`InputFinder`] resolves.
    pub named_contexts: BTreeMap<String, String>,
    /// The platforms to build for. Exactly one is supported.
    pub platforms: Vec<PlatformSpec>,
    /// The platform of this machine.
    pub host_platform: PlatformSpec,
    /// Labels that are added to the config.
    pub labels: BTreeMap<String, String>,
    /// The time of the build, in seconds since 1970, if one was requested; see [`BuildOptions::time`]. The times of the
    /// results are those of the outputs and cache exports.
    ///
    /// [`BuildOptions::time`]: crate::BuildOptions::time
    pub time: Option<i64>,
    /// The outputs, which are written in this order.
    pub outputs: Vec<BuildOutput>,
    /// The shared caches to read.
    pub cache_imports: Vec<CacheImportRequest>,
    /// The shared caches to write, after the outputs.
    pub cache_exports: Vec<CacheExportRequest>,
    /// True if the step cache and shared caches are used.
    pub use_cache: bool,
    /// The names of stages whose steps are all executed.
    pub no_cache_filter: Vec<String>,
    /// The default network of commands.
    pub network: JailNetwork,
    /// Secrets, ssh agents, limits and privileges of commands.
    pub command_options: CommandOptions,
    /// True if it is checked whether the commands of the image can start.
    pub check_commands: bool,
}

/// A Dockerfile with its names.
#[derive(Debug, Clone)]
pub struct DockerfileText {
    /// The name for messages.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The name and the patterns of the ignore list of the build context.
    pub ignore: Option<(String, Arc<IgnoreList>)>,
    /// The address of the Dockerfile, by which a later build finds the journal of this one.
    pub address: String,
    /// The address of the build context, for the same purpose.
    pub context_address: String,
}

impl BuildRequest {
    /// Returns the platform to build for.
    ///
    /// # Errors
    /// Returns an error unless there is exactly one.
    pub(crate) fn platform(&self) -> Result<&PlatformSpec, BuildFailure> {
        match self.platforms.as_slice() {
            [platform] => Ok(platform),
            others => Err(BuildFailure::Platforms { count: others.len() }),
        }
    }

    pub(crate) fn settings(&self) -> Result<BuildSettings, BuildFailure> {
        let platforms = (self.platform()?, &self.host_platform);
        Ok(plan_settings(self.target.as_deref(), &self.build_args, &self.named_contexts, platforms))
    }

    pub(crate) fn build_id(&self) -> Result<BuildId, BuildFailure> {
        Ok(BuildId {
            dockerfile: self.dockerfile.address.clone(),
            context: self.dockerfile.context_address.clone(),
            platform: self.platform()?.to_string(),
            target: self.target.clone().unwrap_or_default(),
            build_args: self.build_args.clone(),
        })
    }
}

/// Returns the settings of the planner for a build for `platform` on a machine of the platform `own`.
pub fn plan_settings(
    target: Option<&str>,
    build_args: &BTreeMap<String, String>,
    named_contexts: &BTreeMap<String, String>,
    (platform, own): (&PlatformSpec, &PlatformSpec),
) -> BuildSettings {
    BuildSettings {
        target: target.map(str::to_owned),
        all_stages: false,
        build_args: build_args.clone(),
        contexts: named_contexts.keys().cloned().collect(),
        build_platform: Some(own.clone()).filter(|own| own != platform),
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: Some(platform.variant.clone()).filter(|variant| !variant.is_empty()),
    }
}

/// Returns `platform` as an image's platform.
pub(crate) fn image_platform(platform: &PlatformSpec) -> ImagePlatform {
    let variant = Some(platform.variant.clone()).filter(|variant| !variant.is_empty());
    ImagePlatform { architecture: platform.architecture.clone(), os: platform.os.clone(), variant }
}

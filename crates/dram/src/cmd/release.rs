//! `dram release`: assembles a project into a release.

use std::path::PathBuf;

use dram_assemble::{
    AssembleRequest, AssembledRelease, CallerEnvironment, CodeLoadingMode, ProjectTools, ReleaseTimes,
    SystemRequirements,
};
use serde_json::json;

use super::{print_stdout, upgrade};
use crate::ambient;
use crate::cli;
use crate::failure::Failure;
use crate::format::{format_count, format_size};
use crate::report;

/// Assembles the release, or prints its requirements.
pub(crate) fn release(args: &cli::ReleaseArgs) -> Result<(), Failure> {
    let request = assemble_request(args)?;
    if args.requires {
        let requires = dram_assemble::system_requirements(&request)?;
        print_stdout(&if args.json { requires_json(&requires) } else { requires_text(&requires) });
        return Ok(());
    }
    let given = ambient::source_date_epoch()?;
    let made = dram_assemble::assemble_release(&request, &|outputs| release_times(args, &request, given, outputs))?;
    made.warnings.iter().for_each(|warning| report::print_note(&format!("warning: {warning}")));
    if args.json {
        print_stdout(&release_json(&made));
    } else if !args.quiet {
        print_stdout(&release_text(&made));
    }
    Ok(())
}

/// Returns the rule for the times of a release, and prints it: `given`, else the time of the commit.
fn release_times(
    args: &cli::ReleaseArgs,
    request: &AssembleRequest,
    given: Option<i64>,
    outputs: &[PathBuf],
) -> ReleaseTimes {
    let commit_time = || match request.from.is_empty() {
        true => dram_remote::work_tree_commit_time(&request.tools.path, &request.project, outputs, &|| false)
            .map_err(|error| error.to_string()),
        false => Err("compiled directories have no commit".to_owned()),
    };
    let (times, text) = match given.map_or_else(commit_time, Ok) {
        Ok(time) if given.is_some() => (ReleaseTimes::Same(time), format!("times: all {time}, of SOURCE_DATE_EPOCH")),
        Ok(time) => (ReleaseTimes::Same(time), format!("times: all {time}, of the commit")),
        Err(why) => {
            let text = format!("times: the project's files keep theirs, all others have 1980-01-02 (no commit: {why})");
            (ReleaseTimes::Own, text)
        }
    };
    if !args.quiet {
        report::print_note(&text);
    }
    times
}

fn assemble_request(args: &cli::ReleaseArgs) -> Result<AssembleRequest, Failure> {
    let absolute = |path: &std::path::Path| {
        std::path::absolute(path).map_err(|error| Failure::work("the working directory is gone").because(&error))
    };
    let environment: CallerEnvironment = ambient::environment();
    let portable = match (args.portable, args.no_portable) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    let (from, upgrade) = upgrade::parse_from(args)?;
    Ok(AssembleRequest {
        project: absolute(&args.project)?,
        name: args.name.clone(),
        env: args.env.clone(),
        version: args.version.clone(),
        from: from.iter().map(|dir| absolute(dir)).collect::<Result<_, _>>()?,
        upgrade,
        otp: args.otp.as_deref().map(absolute).transpose()?,
        output: args.output.as_deref().map(absolute).transpose()?,
        archive: !args.no_tar,
        overwrite: args.overwrite,
        portable,
        mode: args.mode.map(|mode| match mode {
            cli::LoadMode::Embedded => CodeLoadingMode::Embedded,
            cli::LoadMode::Interactive => CodeLoadingMode::Interactive,
        }),
        tools: ProjectTools { path: ambient::search_path(), quiet: args.quiet || args.json },
        environment,
    })
}

fn release_text(made: &AssembledRelease) -> String {
    let path = made.path.display();
    let mut text = format!(
        "release {} {}: {}, {}, {}\n\n    {path}\n",
        made.name,
        made.version,
        format_count(made.applications.len(), "application"),
        format_count(made.files, "file"),
        format_size(made.size)
    );
    if let Some(archive) = &made.archive {
        text.push_str(&format!("    {} ({})\n", archive.path.display(), format_size(archive.size)));
    }
    if let Some(upgrade) = &made.upgrade {
        text.push_str(&upgrade::upgrade_text(made, upgrade));
        return text;
    }
    text.push_str(&format!("\nto start it:\n\n    {path}/bin/{} foreground\n", made.name));
    text
}

fn release_json(made: &AssembledRelease) -> String {
    let archive = made.archive.as_ref().map(|archive| {
        json!({
            "path": archive.path.to_string_lossy(),
            "digest": archive.digest.to_string(),
            "size": archive.size,
        })
    });
    let applications: Vec<_> =
        made.applications.iter().map(|(name, version)| json!({ "name": name, "version": version })).collect();
    let all = json!({
        "name": made.name,
        "version": made.version,
        "path": made.path.to_string_lossy(),
        "program": made.path.join("bin").join(&made.name).to_string_lossy(),
        "archive": archive,
        "upgrade": made.upgrade.as_ref().map(upgrade::upgrade_json),
        "files": made.files,
        "size": made.size,
        "applications": applications,
        "warnings": made.warnings,
    });
    format!("{all:#}\n")
}

fn requires_json(requires: &SystemRequirements) -> String {
    let all = json!({
        "machines": requires.machines,
        "loaders": requires.loaders,
        "libraries": requires.libraries,
        "versions": requires.versions,
    });
    format!("{all:#}\n")
}

fn requires_text(requires: &SystemRequirements) -> String {
    let mut text = String::new();
    let machines: Vec<_> = requires.machines.iter().map(String::as_str).collect();
    text.push_str(&format!("processor  {}\n", machines.join(", ")));
    for (loader, programs) in &requires.loaders {
        text.push_str(&format!("loader     {loader}  (of {})\n", first_and_count(programs)));
    }
    for (library, programs) in &requires.libraries {
        let versions = requires.versions.get(library).map(|versions| {
            let versions: Vec<_> = versions.iter().map(String::as_str).collect();
            format!(" with {}", versions.join(", "))
        });
        text.push_str(&format!(
            "library    {library}{}  (of {})\n",
            versions.unwrap_or_default(),
            first_and_count(programs)
        ));
    }
    text.push_str("\nwith --portable the release brings all of this along\n");
    text
}

/// The first of `programs`, and the number of the others.
fn first_and_count(programs: &std::collections::BTreeSet<String>) -> String {
    match (programs.first(), programs.len()) {
        (None, _) => String::new(),
        (Some(first), 1) => first.clone(),
        (Some(first), count) => format!("{first} and {} more", count - 1),
    }
}

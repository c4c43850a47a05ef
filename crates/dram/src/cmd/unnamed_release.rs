//! Warnings about commands of an image that need the node name of a release that has none.

use dram_build::UnnamedReleaseCall;

use crate::report;

/// Prints a warning for each command that will fail.
pub(crate) fn warn(calls: &[UnnamedReleaseCall]) {
    for UnnamedReleaseCall { instruction, program, command } in calls {
        report::print_note(&format!(
            "warning: the {instruction} of the image will fail: `{program} {command}` needs a node name, and the release has \
             none"
        ));
        report::print_note(
            "  help: write `ENV RELEASE_DISTRIBUTION=sname`, or set `distribution` in the dram.toml of the release; `ping` and \
             `pid` need no name",
        );
    }
}

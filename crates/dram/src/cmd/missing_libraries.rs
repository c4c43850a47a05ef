//! Warnings about libraries that the programs of an image lack.

use dram_build::MissingLibrary;

use crate::report;

/// Prints a warning for each library or loader that programs of the image need and it does not have.
pub(crate) fn warn(lacks: &[MissingLibrary]) {
    for lack in lacks {
        let programs: Vec<String> = lack.programs.iter().take(3).map(|path| format!("`{path}`")).collect();
        let more = lack.programs.len() - programs.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let kind = if lack.is_loader { "loader" } else { "library" };
        report::print_note(&format!(
            "warning: {}{more} need{} the {kind} `{}`, which is not in the image",
            programs.join(", "),
            if lack.programs.len() == 1 { "s" } else { "" },
            lack.name
        ));
        let help = match debian_package(&lack.name) {
            _ if lack.is_loader => "build it in a stage of the same family as the last one (musl or glibc), or the \
                                    other way round"
                .to_owned(),
            Some(package) => format!("install it in the last stage (on Debian: `apt-get install {package}`)"),
            None => "install it in the last stage, or copy it from the stage that has it".to_owned(),
        };
        report::print_note(&format!("  help: {help}"));
    }
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

//! The identity of a build, by which a later build finds the journal of this one.

use std::path::Path;

/// The canonical path; for an address, its text without credentials and query.
pub(super) fn canonical_address(path: &Path) -> String {
    if path.as_os_str() == "-" {
        return "-".to_owned();
    }
    let real = std::fs::canonicalize(path);
    let text = real.as_deref().unwrap_or(path).display().to_string();
    match text.split_once("://") {
        Some((scheme, rest)) if real.is_err() => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            let path = path.split('?').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_recorded_without_credentials_and_query() {
        for (text, want) in [
            ("https://me:word@host/a/b.git#main", "https://host/a/b.git#main"),
            ("https://host/a?token=1", "https://host/a"),
            ("https://host", "https://host/"),
            ("-", "-"),
        ] {
            assert_eq!(canonical_address(Path::new(text)), want);
        }
    }
}

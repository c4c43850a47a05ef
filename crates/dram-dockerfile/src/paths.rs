//! Paths inside an image.

/// Resolves `path` relative to `dir`: absolute, without `.`, `..` and doubled slashes. `..` does not go above the root.
pub(crate) fn absolute(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let before = if path.starts_with('/') { "" } else { dir };
    for part in before.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns `path` without `.`, doubled slashes and resolvable `..`, as Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> String {
    if path.starts_with('/') {
        return absolute("/", path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Returns the destination of a `COPY`: absolute, with a trailing slash when `path` denotes a directory.
pub(crate) fn destination(dir: &str, path: &str) -> String {
    let mut place = absolute(dir, path);
    let directory = path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    if directory && !place.ends_with('/') {
        place.push('/');
    }
    place
}

/// Returns the `WorkingDir` of the config after `WORKDIR path`: an absolute path stays as written, as in BuildKit.
pub(crate) fn workdir(dir: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { absolute(dir, path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destination_of_a_directory_ends_with_a_slash() {
        let table = [
            ("/app", ".", "/app/"),
            ("/app", "./", "/app/"),
            ("/app", "", "/app/"),
            ("/app", "x", "/app/x"),
            ("/app", "x/", "/app/x/"),
            ("/app", "x/.", "/app/x/"),
            ("/app", "/x//y/../z", "/x/z"),
            ("/app", "../../..", "/"),
            ("", "x", "/x"),
            ("/", "/", "/"),
        ];
        for (dir, path, expected) in table {
            assert_eq!(destination(dir, path), expected, "{dir} {path}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, expected) in
            [("", "."), ("a//b/./c/..", "a/b"), ("../../a", "../../a"), ("a/../../b", "../b"), ("/a/../..//b/", "/b")]
        {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn relative_workdir_is_joined_to_the_current_one() {
        assert_eq!(workdir("/a", "b/../c"), "/a/c");
        assert_eq!(workdir("/a", "/b/"), "/b/");
        assert_eq!(absolute("/", "/b/"), "/b");
    }
}

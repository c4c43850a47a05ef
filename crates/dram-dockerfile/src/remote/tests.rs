use super::*;

fn git_of(text: &str) -> GitRef {
    match classify_context(text) {
        Ok(Some(RemoteSource::Git(git))) => git,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn sources_are_classified_as_url_git_or_path() {
    let table = [
        ("https://example.com/a.tar", "url a.tar"),
        ("https://example.com/a.tar?x=1#y", "url a.tar"),
        ("http://example.com/dir/a%20b", "url a b"),
        ("https://example.com", "url __unnamed__"),
        ("https://example.com/", "url __unnamed__"),
        ("https://example.com/..", "url download"),
        ("https://example.com/a.git/", "url a.git"),
        ("https://example.com/a.git.x", "url a.git.x"),
        ("https://example.com/a.git", "git https://example.com/a.git"),
        ("https://u:p@example.com:8080/a.git", "git https://u:p@example.com:8080/a.git"),
        ("HTTPS://example.com/a.git", "git https://example.com/a.git"),
        ("https://example.com/a.git#main:dir", "git https://example.com/a.git"),
        ("git@example.com:a/b", "git git@example.com:a/b"),
        ("git@example.com:a/b.git?ref=x#", "git git@example.com:a/b.git"),
        ("git://example.com/a", "git git://example.com/a"),
        ("ssh://git@example.com:22/a", "git ssh://git@example.com:22/a"),
        ("HTTP://example.com/a", "path"),
        ("ftp://example.com/a", "path"),
        ("github.com/a/b", "path"),
        ("a.git", "path"),
        (".git", "path"),
        ("./git@example.com:a", "path"),
        ("../git@example.com:a", "path"),
        ("lib/a:b", "path"),
        ("git@exa_mple.com:a", "path"),
        ("git@example.com:a?x=%zz", "path"),
        ("", "path"),
    ];
    for (text, expected) in table {
        let found = match classify(text) {
            Ok(Some(RemoteSource::Url { file_name, .. })) => format!("url {file_name}"),
            Ok(Some(RemoteSource::Git(git))) => format!("git {}", git.remote),
            Ok(None) => "path".to_owned(),
            Err(wrong) => format!("{wrong}"),
        };
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn git_reference_and_subdir_are_parsed() {
    let table = [
        ("https://a.example/r.git", "r", "", ""),
        ("https://a.example/r.git#v1", "r", "v1", ""),
        ("https://a.example/r.git#release/1:x/../y/", "r", "release/1", "y"),
        ("https://a.example/r.git#:x", "r", "", "x"),
        ("https://a.example/r.git?subdir=x#:x", "r", "", "x"),
        ("https://a.example/r.git?ref=v1&subdir=/x", "r", "v1", "/x"),
        ("https://a.example/r.git?branch=v1", "r", "refs/heads/v1", ""),
        ("https://a.example/r.git?branch=refs/heads/v1", "r", "refs/heads/v1", ""),
        ("https://a.example/r.git?tag=v1", "r", "refs/tags/v1", ""),
        ("https://a.example/r.git?tag=v%2B1", "r", "refs/tags/v+1", ""),
        ("https://a.example/r.git#a%3Ab", "r", "a", "b"),
        ("git@a.example:o/r.git?subdir=/x#v1", "r", "v1", "/x"),
        ("git@a.example:o/r.git#pull/1/head", "r", "pull/1/head", ""),
        ("git@a.example:r.git", "git@a.example:r", "", ""),
        ("github.com/o/r", "r", "", ""),
        ("github.com/o/r#v1:x", "r", "v1", "x"),
    ];
    for (text, name, reference, subdir) in table {
        let git = git_of(text);
        let found = (git.short_name.as_str(), git.reference.as_str(), git.subdir.as_str());
        assert_eq!(found, (name, reference, subdir), "{text}");
    }
    assert_eq!(git_of("github.com/o/r").remote, "https://github.com/o/r");
}

#[test]
fn query_options_are_parsed() {
    let base = "https://a.example/r.git";
    let of = |query: &str| git_of(&format!("{base}?{query}"));
    assert_eq!(of("keep-git-dir").keep_git_dir, Some(true));
    assert_eq!(of("keep-git-dir=0").keep_git_dir, Some(false));
    assert_eq!(of("submodules=False").submodules, Some(false));
    assert_eq!(of("submodules=").submodules, Some(true));
    assert_eq!(of("mtime=commit").commit_times, Some(true));
    assert_eq!(of("mtime=checkout").commit_times, Some(false));
    assert_eq!(of("checksum=abc").checksum.as_deref(), Some("abc"));
    assert_eq!(of("commit=abc").checksum.as_deref(), Some("abc"));
    assert!(of("fetch-by-commit&checksum=abc").fetch_by_commit);
    assert!(!of("").is_unencrypted);
    assert!(git_of("http://a.example/r.git").is_unencrypted);
    assert!(git_of("git://a.example/r").is_unencrypted);
}

#[test]
fn invalid_addresses_are_errors_with_a_suggestion() {
    let table = [
        ("https://a.example/r.git?reff=x", "`reff` in the query is not known", "did you mean `ref`?"),
        ("https://a.example/r.git?ref=x&ref=y", "the query has `ref` twice", "write `ref=` once"),
        ("https://a.example/r.git?ref=", "`ref` in the query has no value", "write `ref=VALUE`, or leave it out"),
        (
            "https://a.example/r.git?tag=x&branch=y",
            "the query has both `tag` and `branch`",
            "write the one that is meant",
        ),
        (
            "https://a.example/r.git?ref=x#y",
            "the address says both `y` and `x` for `ref`",
            "say it once: after `#`, or in the query",
        ),
        ("https://a.example/r.git?keep-git-dir=no", "`keep-git-dir=no` is neither true nor false", "=true"),
        ("https://a.example/r.git?mtime=now", "`now` is not a time that files can have", "mtime=commit"),
        ("https://a.example/r.git?checksum=xyz", "`xyz` is not the beginning of a commit's id", "git rev-parse"),
        ("https://a.example/r.git#-x", "`-x` begins with a `-`", "name a branch"),
        ("-x@a.example:r", "`-x@a.example:r` begins with a `-`", "name a branch"),
        ("ssh://-oProxyCommand=x/r", "`ssh://-oProxyCommand=x/r` names no host", "HOST"),
        ("https://u:secret@a.example/%", "`https://xxxxx:xxxxx@a.example/%` is not a valid URL", "%25"),
        ("ssh://a.example/\u{1}", "`ssh://a.example/\\u{1}` is not a valid address of a Git repository", "%20"),
    ];
    for (text, message, help) in table {
        let wrong = classify(text).expect_err(text);
        assert_eq!(wrong.message, message, "{text}");
        assert!(wrong.help.contains(help), "{text}: {}", wrong.help);
    }
}

#[test]
fn credentials_in_urls_are_redacted() {
    let table = [
        ("https://a.example/x@y", "https://a.example/x@y"),
        ("https://u@a.example/x", "https://xxxxx@a.example/x"),
        ("https://u:p@ss@a.example/x", "https://xxxxx:xxxxx@a.example/x"),
        ("git@a.example:x", "git@a.example:x"),
    ];
    for (url, expected) in table {
        assert_eq!(redacted(url), expected);
    }
}

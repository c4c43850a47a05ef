use super::*;

fn list(text: &str) -> IgnoreList {
    IgnoreList::parse(text.as_bytes()).unwrap()
}

#[test]
fn single_patterns_match_as_in_moby() {
    let table = [
        ("deps", "deps", true),
        ("deps", "deps/jason/mix.exs", true),
        ("deps", "lib/deps", false),
        ("/deps/", "deps/a", true),
        ("./a/../deps", "deps", true),
        ("*.ez", "a.ez", true),
        ("*.ez", "lib/a.ez", false),
        ("**/*.ez", "a.ez", true),
        ("**/*.ez", "lib/x/a.ez", true),
        ("**/*.ez", "a.ez/inside", true),
        ("**/cover", "apps/web/cover/index.html", true),
        ("**/cover", "cover", true),
        ("**/cover", "discover", false),
        ("**cover", "discover", true),
        ("**cov?r", "discover", false),
        ("_build/**", "_build/dev/lib", true),
        ("_build/**", "_build", false),
        ("_build**", "_build_old/x", true),
        ("a/**/z", "a/z", true),
        ("a/**/z", "a/b/c/z", true),
        ("a/**/z", "az", false),
        ("**", "anything/at/all", true),
        ("*", ".git/config", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("a[!b]c", "a!c", true),
        ("a[^b]c", "axc", true),
        ("a[^b]c", "abc", false),
        ("a\\*c", "a*c", true),
        ("a\\*c", "abc", false),
        ("a.c", "abc", false),
        ("한*", "한국어", true),
        (".", "a", false),
        ("/", "a", false),
        ("..", "a", false),
        ("#a", "#a", false),
        (" #a", "#a", true),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(list(pattern).excludes(path), expected, "{pattern} {path}");
    }
}

#[test]
fn last_matching_pattern_decides() {
    let table = [
        ("*\n!lib", "lib/a.ex", false),
        ("*\n!lib", "test/a.exs", true),
        ("*\n!lib\nlib/secret", "lib/secret/key", true),
        ("lib\n!lib/a\nlib", "lib/a", true),
        ("!lib\nlib", "lib", true),
        ("a\n!a/b\n", "a/b/c", false),
        ("a\n! /a/b\n", "a/b/c", false),
        ("a/*\n!a/*/keep", "a/x/keep", false),
        ("a/*\n!a/*/keep", "a/x/other", true),
    ];
    for (text, path, expected) in table {
        assert_eq!(list(text).excludes(path), expected, "{text:?} {path}");
    }
    let ignore = list("\u{feff}# comment\n*\n!lib\r\n  lib/secret  \r\n");
    let pattern = ignore.excluded_by("lib/secret/key").unwrap();
    assert_eq!((pattern.text.as_str(), pattern.line, pattern.exception), ("lib/secret", 4, false));
    assert_eq!(pattern.span, 23..33);
}

#[test]
fn directory_is_pruned_only_when_no_exception_can_match_in_it() {
    let table = [
        ("deps", "deps", true),
        ("deps", "lib", false),
        ("deps\n!deps/jason", "deps", false),
        ("deps\n!deps/jason", "deps/plug", true),
        ("deps\n!deps/*/ebin", "deps/plug", false),
        ("deps\n!deps/*/ebin", "deps/plug/src", true),
        ("deps\n!lib", "deps", true),
        ("deps\n!**/*.md", "deps", false),
        ("deps\n!**/README", "deps", false),
        ("!deps/jason\ndeps", "deps", true),
        ("deps\n!deps/keep/**", "deps", false),
        ("deps\n!deps/keep/**", "deps/keep", false),
        ("deps\n!l*b/x", "deps", true),
        ("*\n!a", "a", false),
        ("*\n!a", "ab", true),
    ];
    for (text, dir, expected) in table {
        assert_eq!(list(text).may_prune(dir), expected, "{text:?} {dir}");
    }
}

#[test]
fn pruning_agrees_with_matching() {
    let names = ["a", "b", "ab", "c"];
    let patterns = ["a", "b", "a/b", "*", "a/*", "**/b", "a/**", "**b", "a*/c", "*/b/c", "**/a/c", "?/c"];
    for first in patterns {
        for second in patterns {
            let ignore = list(&format!("{first}\n!{second}"));
            for dir in names {
                for inner in names {
                    let path = format!("{dir}/{inner}");
                    assert!(!ignore.may_prune(dir) || ignore.excludes(&path), "{first} !{second} {path}");
                    for leaf in names {
                        let leaf = format!("{path}/{leaf}");
                        assert!(!ignore.may_prune(&path) || ignore.excludes(&leaf), "{first} !{second} {leaf}");
                        assert!(!ignore.may_prune(dir) || ignore.excludes(&leaf), "{first} !{second} {leaf}");
                    }
                }
            }
        }
    }
}

#[test]
fn all_malformed_patterns_are_reported() {
    let problems = IgnoreList::parse(b"ok\n[\n!\na\\\n").unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.span.clone()).collect();
    assert_eq!(places, [3..4, 5..6, 7..9]);
    assert!(IgnoreList::parse(b"\xff").is_err());
}

#[test]
fn long_lists_and_adversarial_patterns_match_quickly() {
    let mut text = String::new();
    for at in 0..100_000 {
        text.push_str(&format!("dir{at}/file\n**/name{at}\n"));
    }
    let ignore = list(&text);
    for at in 0..20_000 {
        assert!(!ignore.excludes(&format!("other/{at}/x/y")));
    }
    let mean = list(&"**/*a*".repeat(200));
    assert!(!mean.excludes(&"b/".repeat(1000)));
    let wild: String = (0..100_000).map(|at| format!("*.{at}\n")).collect();
    let wild = list(&wild);
    for at in 0..20 {
        assert!(!wild.excludes(&format!("lib/{at}.ex")));
    }
}

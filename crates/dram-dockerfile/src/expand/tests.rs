use super::*;

fn value(name: &str) -> Option<&'static str> {
    match name {
        "HOME" => Some("/home/elixir"),
        "VSN" => Some("1.18.2"),
        "EMPTY" => Some(""),
        "LIST" => Some("80  443"),
        "FILE" => Some("lib/app/mix.tar.gz"),
        _ => None,
    }
}

fn plain(word: &str) -> Result<ExpandedWord, ExpandError> {
    expand(word, ExpandOptions::new('\\'), &value)
}

#[test]
fn variables_and_quotes_are_expanded() {
    let table = [
        ("x", "x"),
        ("$HOME/bin", "/home/elixir/bin"),
        ("${HOME}bin", "/home/elixirbin"),
        ("$NONE.", "."),
        ("\\$HOME", "$HOME"),
        ("'$HOME'", "$HOME"),
        ("\"$VSN\"x", "1.18.2x"),
        ("\"a\\b\\\"c\"", "a\\b\"c"),
        ("a\\ b", "a b"),
        ("a$", "a$"),
        ("$1x", "x"),
        ("${VSN:-9}", "1.18.2"),
        ("${NONE:-9}", "9"),
        ("${EMPTY:-9}", "9"),
        ("${EMPTY-9}", ""),
        ("${EMPTY:+9}", ""),
        ("${EMPTY+9}", "9"),
        ("${VSN:+-$VSN}", "-1.18.2"),
        ("${A:-${B:-${VSN}}}", "1.18.2"),
        ("${A:-'}'}", "}"),
        ("${A:-\"${B:-b }\"}", "b "),
        ("${VSN?must}", "1.18.2"),
        ("${VSN%.*}", "1.18"),
        ("${VSN%%.*}", "1"),
        ("${VSN#*.}", "18.2"),
        ("${VSN##*.}", "2"),
        ("${FILE##*/}", "mix.tar.gz"),
        ("${FILE%%.*}", "lib/app/mix"),
        ("${FILE/app/web}", "lib/web/mix.tar.gz"),
        ("${VSN//./_}", "1_18_2"),
        ("${VSN/.*./-}", "1-2"),
        ("${FILE//\\//:}", "lib:app:mix.tar.gz"),
        ("한국어", "한국어"),
    ];
    for (word, expected) in table {
        assert_eq!(plain(word).map(|expanded| expanded.text), Ok(expected.to_owned()), "{word}");
    }
}

#[test]
fn malformed_substitutions_are_errors() {
    let required = |name: &str, message: &str| ExpandError::Required { name: name.into(), message: message.into() };
    let table = [
        ("${x", ExpandError::MissingBrace),
        ("${x:-", ExpandError::MissingBrace),
        ("${x:-${y}", ExpandError::MissingBrace),
        ("${", ExpandError::MissingBrace),
        ("${}", ExpandError::BadSubstitution),
        ("${:x}", ExpandError::BadSubstitution),
        ("${x=y}", ExpandError::UnsupportedModifier("=".into())),
        ("${x:#y}", ExpandError::UnsupportedModifier(":#".into())),
        ("${x/y}", ExpandError::MissingSlash),
        ("${x#\\y}", ExpandError::InvalidPattern("\\y".into())),
        ("'x", ExpandError::OpenQuote("single")),
        ("\"x", ExpandError::OpenQuote("double")),
        ("${x?}", required("x", "must be set")),
        ("${EMPTY:?}", required("EMPTY", "must not be empty")),
        ("${x:?give it}", required("x", "is required: give it")),
    ];
    for (word, expected) in table {
        assert_eq!(plain(word), Err(expected), "{word}");
    }
}

#[test]
fn words_are_split_only_at_unquoted_blanks() {
    let table: &[(&str, &[&str])] = &[
        ("$LIST 8080", &["80", "443", "8080"]),
        ("\"$LIST\" x", &["80  443", "x"]),
        ("a\\ b c", &["a b", "c"]),
        ("$NONE", &[]),
        ("80${NONE:-81}", &["8081"]),
    ];
    for (word, expected) in table {
        let options = ExpandOptions { split: true, ..ExpandOptions::new('\\') };
        assert_eq!(expand(word, options, &value).unwrap().words, *expected, "{word}");
    }
}

#[test]
fn looked_up_variables_are_reported_as_set_or_unset() {
    let expanded = plain("$HOME ${NONE:-$VSN}").unwrap();
    assert_eq!(expanded.matched.into_iter().collect::<Vec<_>>(), ["HOME", "VSN"]);
    assert_eq!(expanded.unmatched.into_iter().collect::<Vec<_>>(), ["NONE"]);
}

#[test]
fn unset_variables_can_stay_as_written() {
    let options = ExpandOptions { keep_unset: true, raw_quotes: true, ..ExpandOptions::new('\\') };
    let text = expand("\"$NONE\" ${NONE} ${NONE:-x} $VSN ${NONE//a/b}", options, &value).unwrap().text;
    assert_eq!(text, "\"$NONE\" ${NONE} ${NONE:-x} 1.18.2 ${NONE//a/b}");
}

#[test]
fn backtick_escape_leaves_backslashes_literal() {
    let text = expand("c:\\a`$x", ExpandOptions::new('`'), &value).unwrap().text;
    assert_eq!(text, "c:\\a$x");
}

#[test]
fn deep_nesting_does_not_recurse() {
    let depth = 100_000;
    let word = "${a:-".repeat(depth) + "deep" + &"}".repeat(depth);
    assert_eq!(plain(&word).map(|expanded| expanded.text), Ok("deep".to_owned()));
    assert_eq!(plain(&"${a:-".repeat(depth)), Err(ExpandError::MissingBrace));
}

#[test]
fn values_and_work_beyond_the_limit_are_errors() {
    let long = "x".repeat(MAX_VALUE_SIZE);
    let word = "$x$x";
    assert_eq!(expand(word, ExpandOptions::new('\\'), &|_| Some(long.as_str())), Err(ExpandError::TooLong));
    let thrown_away = "${y:+$x}".repeat(100);
    assert_eq!(
        expand(&thrown_away, ExpandOptions::new('\\'), &|name| (name == "x").then_some(long.as_str())),
        Err(ExpandError::TooLong)
    );
    let heavy = format!("${{x//{}/y}}", "?*".repeat(10_000));
    assert_eq!(expand(&heavy, ExpandOptions::new('\\'), &|_| Some(long.as_str())), Err(ExpandError::TooLong));
}

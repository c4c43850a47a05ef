//! Replays the seed inputs of the fuzz targets: one input per line of a file, with escapes.

#[path = "support/checks.rs"]
mod checks;

/// Parses a file of seeds: `\n`, `\r`, `\t`, `\\` and `\xHH` are bytes.
fn inputs(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(input).collect()
}

fn input(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut letters = line.bytes();
    while let Some(letter) = letters.next() {
        let plain = if letter == b'\\' { letters.next() } else { None };
        bytes.push(match plain {
            None => letter,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [letters.next().expect("two digits"), letters.next().expect("two digits")];
                let digits = std::str::from_utf8(&digits).expect("hexadecimal digits");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            Some(other) => panic!("`\\{}` is no escape: {line}", char::from(other)),
        });
    }
    bytes
}

#[test]
fn dockerfile_seeds_keep_the_invariants() {
    let all = inputs(include_str!("../../../fuzz/seeds/dockerfile.txt"));
    assert!(!all.is_empty());
    all.iter().for_each(|input| checks::dockerfile(input));
}

#[test]
fn expansion_seeds_keep_the_invariants() {
    let all = inputs(include_str!("../../../fuzz/seeds/expand.txt"));
    assert!(!all.is_empty());
    all.iter().for_each(|input| checks::expansion(input));
}

#[test]
fn ignore_list_seeds_keep_the_invariants() {
    let all = inputs(include_str!("../../../fuzz/seeds/ignore.txt"));
    assert!(!all.is_empty());
    all.iter().for_each(|input| checks::ignore(input));
}

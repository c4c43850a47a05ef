//! Replays the seeds of the fuzz targets: one input on each line of a file, with escapes.

#[path = "support/checks.rs"]
mod checks;

/// Returns the inputs of a seed file; `\n`, `\r`, `\t`, `\\` and `\xHH` stand for bytes.
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

fn replay(text: &str, check: impl Fn(&[u8])) {
    let all = inputs(text);
    assert!(!all.is_empty());
    all.iter().for_each(|input| check(input));
}

#[test]
fn tar_seeds_hold_their_invariants() {
    replay(include_str!("../../../fuzz/seeds/tar.txt"), checks::tar);
}

#[test]
fn manifest_seeds_hold_their_invariants() {
    replay(include_str!("../../../fuzz/seeds/manifest.txt"), checks::manifest);
}

#[test]
fn index_seeds_hold_their_invariants() {
    replay(include_str!("../../../fuzz/seeds/index.txt"), checks::index);
}

#[test]
fn config_seeds_hold_their_invariants() {
    replay(include_str!("../../../fuzz/seeds/config.txt"), checks::config);
}

#[test]
fn reference_seeds_hold_their_invariants() {
    replay(include_str!("../../../fuzz/seeds/reference.txt"), checks::reference);
}

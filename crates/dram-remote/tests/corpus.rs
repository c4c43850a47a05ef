//! Replays the seeds of the fuzz targets: one input on each line of a file, with escapes.

use dram_remote::registry::{try_challenge, try_credentials, try_link};

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
fn credentials_seeds_do_not_panic() {
    replay(include_str!("../../../fuzz/seeds/credentials.txt"), try_credentials);
}

#[test]
fn response_header_seeds_do_not_panic() {
    let text = |input: &[u8]| String::from_utf8(input.to_vec()).expect("the seeds are text");
    replay(include_str!("../../../fuzz/seeds/challenge.txt"), |input| try_challenge(&text(input)));
    replay(include_str!("../../../fuzz/seeds/challenge.txt"), |input| try_link(&text(input)));
}

//! "Did you mean" suggestions: the nearest of some names by edit distance.

/// Longer words are not compared: a suggestion is unlikely, and a hostile word would cost time.
const MAX_WORD_LENGTH: usize = 64;

/// The maximum number of names that are compared.
const MAX_OPTIONS: usize = 1000;

/// Returns the one of `options` nearest to `word` that is not equal to it, within two typing errors, or one for words
/// under five characters.
///
/// A typing error is an extra, missing or wrong character, or a swap of two neighbours (Damerau-Levenshtein, without
/// overlapping swaps). Case is ignored. Of equally near options the first wins.
pub fn nearest_name<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = lowercase_letters(word)?;
    let most = if wanted.len() < 5 { 1 } else { 2 };
    let mut best: Option<(usize, &str)> = None;
    for option in options.into_iter().take(MAX_OPTIONS) {
        // A character has one to four bytes, so this excludes most options before they are compared.
        if option == word || option.len() + most < wanted.len() || option.len() > 4 * (wanted.len() + most) {
            continue;
        }
        let Some(letters) = lowercase_letters(option).filter(|letters| letters.len().abs_diff(wanted.len()) <= most)
        else {
            continue;
        };
        let far = edit_distance(&wanted, &letters);
        if far <= most && best.is_none_or(|(least, _)| far < least) {
            best = Some((far, option));
        }
    }
    best.map(|(_, option)| option)
}

fn lowercase_letters(word: &str) -> Option<Vec<char>> {
    if word.len() > MAX_WORD_LENGTH * 4 {
        return None;
    }
    let letters: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
    (!letters.is_empty() && letters.len() <= MAX_WORD_LENGTH).then_some(letters)
}

fn edit_distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut here = vec![row + 1; right.len() + 1];
        for (column, b) in right.iter().enumerate() {
            let changed = last[column] + usize::from(a != b);
            let mut least = changed.min(last[column + 1] + 1).min(here[column] + 1);
            let swapped = row > 0 && column > 0 && left[row - 1] == *b && right[column - 1] == *a;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            here[column + 1] = least;
        }
        before = std::mem::replace(&mut last, here);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_within_two_typing_errors_is_found() {
        let table: &[(&str, &[&str], Option<&str>)] = &[
            ("biuld", &["build", "test"], Some("build")),
            ("COPPY", &["COPY", "CMD"], Some("COPY")),
            ("RNU", &["RUN", "ENV"], Some("RUN")),
            ("chwon", &["chown", "chmod", "from"], Some("chown")),
            ("build", &["build"], None),
            ("Build", &["build"], Some("build")),
            ("xyzzy", &["build", "test"], None),
            ("ab", &["cd"], None),
            ("", &["a"], None),
        ];
        for (word, options, expected) in table {
            assert_eq!(nearest_name(word, options.iter().copied()), *expected, "{word}");
        }
    }

    #[test]
    fn words_beyond_the_limit_are_not_compared() {
        let long = "x".repeat(1_000_000);
        assert_eq!(nearest_name(&long, [long.as_str(), "x"]), None);
    }
}

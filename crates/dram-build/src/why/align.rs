//! Which line of a text was which line of the text before, so that an inserted line does not make all after it new.

use std::collections::BTreeMap;

/// More pairs of lines than this are not compared: a machine wrote such a text.
const MOST_PAIRS: usize = 1 << 20;

/// For each line of `new` its place in `old`: equal lines first, as many as keep their order; between them, lines of
/// the same instruction that have the most words in common.
pub(crate) fn align(old: &[&str], new: &[&str]) -> Vec<Option<usize>> {
    let mut found: Vec<Option<usize>> = vec![None; new.len()];
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let (old_end, new_end) = (old.len() - end, new.len() - end);
    for (at, place) in (0..start).zip(0..).chain((new_end..new.len()).zip(old_end..)) {
        found[at] = Some(place);
    }
    for (at, place) in common(&old[start..old_end], &new[start..new_end]) {
        found[start + at] = Some(start + place);
    }
    fill_gaps(old, new, &mut found);
    found
}

/// The longest common subsequence, as pairs of places in `new` and `old`.
fn common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    if old.is_empty() || new.is_empty() || old.len().saturating_mul(new.len()) > MOST_PAIRS {
        return Vec::new();
    }
    let width = old.len() + 1;
    // How much the ends of both have in common, from each pair of places on.
    let mut length = vec![0_u32; width * (new.len() + 1)];
    for at in (0..new.len()).rev() {
        for place in (0..old.len()).rev() {
            length[at * width + place] = match new[at] == old[place] {
                true => length[(at + 1) * width + place + 1] + 1,
                false => length[(at + 1) * width + place].max(length[at * width + place + 1]),
            };
        }
    }
    let (mut at, mut place, mut pairs) = (0, 0, Vec::new());
    while at < new.len() && place < old.len() {
        if new[at] == old[place] {
            pairs.push((at, place));
            (at, place) = (at + 1, place + 1);
        } else if length[(at + 1) * width + place] > length[at * width + place + 1] {
            at += 1;
        } else {
            place += 1;
        }
    }
    pairs
}

fn fill_gaps(old: &[&str], new: &[&str], found: &mut [Option<usize>]) {
    let (mut at, mut place) = (0, 0);
    while at < new.len() {
        if let Some(there) = found[at] {
            (at, place) = (at + 1, there + 1);
            continue;
        }
        let end = (at..new.len()).find(|at| found[*at].is_some()).unwrap_or(new.len());
        let old_end = found.get(end).copied().flatten().unwrap_or(old.len());
        for (one, other) in alike(&old[place..old_end], &new[at..end]) {
            found[at + one] = Some(place + other);
        }
        (at, place) = (end, old_end);
    }
}

/// Pairs of lines with the same instruction, those with the most common words first, none across another.
fn alike(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let mut scores = Vec::new();
    if old.len().saturating_mul(new.len()) > MOST_PAIRS >> 6 {
        return Vec::new();
    }
    for (at, one) in new.iter().enumerate() {
        for (place, other) in old.iter().enumerate() {
            if keyword(one) == keyword(other) {
                scores.push((likeness(one, other), at, place));
            }
        }
    }
    // The sort keeps the order of the text among equals.
    scores.sort_by_key(|(score, _, _)| std::cmp::Reverse(*score));
    let mut pairs: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, at, place) in scores {
        let before = pairs.range(..at).next_back().is_none_or(|(_, before)| *before < place);
        let after = pairs.range(at..).next().is_none_or(|(next, after)| *next != at && *after > place);
        if before && after {
            pairs.insert(at, place);
        }
    }
    pairs.into_iter().collect()
}

fn keyword(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// How much of both lines is the same words, in thousandths.
fn likeness(one: &str, other: &str) -> usize {
    let mut words: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    one.split_whitespace().for_each(|word| words.entry(word).or_default().0 += 1);
    other.split_whitespace().for_each(|word| words.entry(word).or_default().1 += 1);
    let common: usize = words.values().map(|(one, other)| one.min(other)).sum();
    let most: usize = words.values().map(|(one, other)| one.max(other)).sum();
    1000 * common / most.max(1)
}

#[cfg(test)]
mod tests {
    use super::align;

    /// Lines before, lines after, and what each of these was.
    type Row = (&'static [&'static str], &'static [&'static str], &'static [Option<usize>]);

    #[test]
    fn lines_find_what_they_were() {
        let table: &[Row] = &[
            (&[], &["RUN a"], &[None]),
            (&["RUN a"], &[], &[]),
            (&["RUN a", "RUN b"], &["RUN a", "RUN b"], &[Some(0), Some(1)]),
            // One is inserted.
            (&["RUN a", "RUN b"], &["RUN a", "RUN x", "RUN b"], &[Some(0), None, Some(1)]),
            (&["RUN a", "RUN b"], &["RUN x", "RUN a", "RUN b"], &[None, Some(0), Some(1)]),
            // One is removed.
            (&["RUN a", "RUN b", "RUN c"], &["RUN a", "RUN c"], &[Some(0), Some(2)]),
            // One is changed.
            (&["RUN a", "RUN b", "RUN c"], &["RUN a", "RUN x", "RUN c"], &[Some(0), Some(1), Some(2)]),
            (&["COPY a b"], &["RUN a b"], &[None]),
            // One is changed and another inserted: the likest is the one that was changed.
            (&["RUN make all"], &["RUN mkdir x", "RUN make all tests"], &[None, Some(0)]),
            (&["RUN make all"], &["RUN make all tests", "RUN mkdir x"], &[Some(0), None]),
            // Two change places: one of them counts as moved.
            (&["RUN a", "COPY b", "RUN c"], &["COPY b", "RUN a", "RUN c"], &[Some(1), None, Some(2)]),
            // Equal lines stay in their order.
            (&["RUN a", "RUN a"], &["RUN a", "RUN a", "RUN a"], &[Some(0), Some(1), None]),
            (&["RUN a", "ENV x", "RUN b"], &["RUN c", "ENV y", "RUN d"], &[Some(0), Some(1), Some(2)]),
        ];
        for (old, new, want) in table {
            assert_eq!(align(old, new), *want, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn a_long_text_takes_no_long_time() {
        let old: Vec<String> = (0..5000).map(|line| format!("RUN old {line}")).collect();
        let new: Vec<String> = (0..5000).map(|line| format!("RUN new {line}")).collect();
        let [old, new] = [&old, &new].map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(align(&old, &new).len(), 5000);
    }
}

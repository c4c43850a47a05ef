//! The term order, as Erlang sorts the keys of maps.

use std::cmp::Ordering;

use crate::term::Term;

/// The maximum size of a map whose keys Erlang sorts; larger maps are hash tries.
const MOST_SORTED: usize = 32;

/// Compares two map keys: numbers, atoms, tuples, maps, lists, binaries; all integers come before all floats.
pub(crate) fn compare_keys(one: &Term, other: &Term) -> Ordering {
    match (one, other) {
        (Term::Int(one), Term::Int(other)) => one.cmp(other),
        (Term::Int(_), Term::Big(negative, _)) => {
            if *negative {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (Term::Big(negative, _), Term::Int(_)) => {
            if *negative {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (Term::Big(negative, one), Term::Big(is_other_negative, other)) => match (negative, is_other_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => compare_magnitudes(one, other),
            (true, true) => compare_magnitudes(other, one),
        },
        // 0.0 and -0.0 compare equal here, but are different keys.
        (Term::Float(one), Term::Float(other)) => one.partial_cmp(other).unwrap_or(Ordering::Equal),
        (Term::Atom(one), Term::Atom(other)) => one.cmp(other),
        (Term::Tuple(one), Term::Tuple(other)) => {
            one.len().cmp(&other.len()).then_with(|| compare_elements(one, other).unwrap_or(Ordering::Equal))
        }
        (Term::Map(one), Term::Map(other)) => compare_maps(one, other),
        (Term::List(one), Term::List(other)) => {
            compare_elements(one, other).unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Term::List(list), Term::Improper(head, tail)) => {
            compare_elements(list, head).unwrap_or_else(|| compare_rests(list, &[], head, Some(tail)))
        }
        (Term::Improper(head, tail), Term::List(list)) => compare_elements(head, list)
            .unwrap_or_else(|| compare_rests(head, std::slice::from_ref(tail.as_ref()), list, None)),
        (Term::Improper(one, tail), Term::Improper(other, other_tail)) => compare_elements(one, other)
            .unwrap_or_else(|| compare_rests(one, std::slice::from_ref(tail.as_ref()), other, Some(other_tail))),
        (Term::Binary(_) | Term::Bits(..), Term::Binary(_) | Term::Bits(..)) => {
            bit_content(one).cmp(&bit_content(other))
        }
        (one, other) => type_rank(one).cmp(&type_rank(other)),
    }
}

fn type_rank(term: &Term) -> u8 {
    match term {
        Term::Int(_) | Term::Big(..) => 0,
        Term::Float(_) => 1,
        Term::Atom(_) => 2,
        Term::Tuple(_) => 3,
        Term::Map(_) => 4,
        Term::List(elements) if elements.is_empty() => 5,
        Term::List(_) | Term::Improper(..) => 6,
        Term::Binary(_) | Term::Bits(..) => 7,
    }
}

fn compare_magnitudes(one: &[u8], other: &[u8]) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.iter().rev().cmp(other.iter().rev()))
}

/// Returns the order of the first elements that differ.
fn compare_elements(one: &[Term], other: &[Term]) -> Option<Ordering> {
    one.iter().zip(other).map(|(one, other)| compare_keys(one, other)).find(|order| order.is_ne())
}

/// Compares the rests of two lists after equal elements: a tail is compared with the rest of the other list.
fn compare_rests(one: &[Term], tail: &[Term], other: &[Term], other_tail: Option<&Term>) -> Ordering {
    let left = |elements: &[Term], tail: Option<&Term>| match (elements, tail) {
        ([], Some(tail)) => type_rank(tail),
        ([], None) => 5,
        (_, _) => 6,
    };
    let shared = one.len().min(other.len());
    let (mine, theirs) = (left(&one[shared..], tail.first()), left(&other[shared..], other_tail));
    match (tail.first(), other_tail) {
        (Some(tail), Some(other_tail)) if one.len() == other.len() => compare_keys(tail, other_tail),
        _ => mine.cmp(&theirs),
    }
}

/// Compares two maps. The keys of small maps are already sorted, since [`sort_keys`] starts with the innermost maps.
fn compare_maps(one: &[(Term, Term)], other: &[(Term, Term)]) -> Ordering {
    let sorted = |pairs: &'_ [(Term, Term)]| {
        let mut places: Vec<usize> = (0..pairs.len()).collect();
        if pairs.len() > MOST_SORTED {
            places.sort_by(|one, other| compare_keys(&pairs[*one].0, &pairs[*other].0));
        }
        places
    };
    let size = one.len().cmp(&other.len());
    if size.is_ne() {
        return size;
    }
    let places: Vec<_> = sorted(one).into_iter().zip(sorted(other)).collect();
    let keys = places.iter().map(|(at, there)| compare_keys(&one[*at].0, &other[*there].0)).find(|order| order.is_ne());
    let values =
        || places.iter().map(|(at, there)| compare_keys(&one[*at].1, &other[*there].1)).find(|order| order.is_ne());
    keys.or_else(values).unwrap_or(Ordering::Equal)
}

/// Returns the bytes with the significant bits of the last one, and the number of bits.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
fn bit_content(term: &Term) -> (&[u8], usize) {
    match term {
        Term::Binary(bytes) => (bytes, bytes.len() * 8),
        Term::Bits(bytes, bits) => (bytes, bytes.len().saturating_sub(1) * 8 + usize::from(*bits)),
        _ => (&[], 0),
    }
}

/// Sorts the keys of a map, if it is small enough for Erlang to sort them.
pub(crate) fn sort_keys(pairs: &mut [(Term, Term)]) {
    if pairs.len() <= MOST_SORTED {
        pairs.sort_by(|(one, _), (other, _)| compare_keys(one, other));
    }
}

/// Returns the pairs in the order of a map. If a key is repeated, the last pair counts.
pub(crate) fn deduplicate_pairs(pairs: Vec<(Term, Term)>) -> Vec<(Term, Term)> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|one, other| compare_keys(&pairs[*one].0, &pairs[*other].0));
    let is_last = |number: usize| {
        let next = order.get(number + 1);
        !next.is_some_and(|next| compare_keys(&pairs[order[number]].0, &pairs[*next].0).is_eq())
    };
    let mut kept: Vec<usize> = (0..order.len()).filter(|number| is_last(*number)).map(|number| order[number]).collect();
    if kept.len() > MOST_SORTED {
        kept.sort_unstable();
    }
    let mut pairs: Vec<Option<(Term, Term)>> = pairs.into_iter().map(Some).collect();
    kept.into_iter().filter_map(|number| pairs[number].take()).collect()
}

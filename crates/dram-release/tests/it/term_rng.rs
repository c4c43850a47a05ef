//! Pseudo-random numbers and terms with a fixed seed.

use dram_release::term::Term;

/// A random number generator (splitmix64).
pub(crate) struct TermRng(u64);

impl TermRng {
    pub(crate) fn new(seed: u64) -> TermRng {
        TermRng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns true with probability 1/`many`.
    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// Returns a random element.
    pub(crate) fn choose<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn letter(&mut self) -> char {
        match self.below(12) {
            0..=6 => char::from(b'a' + self.below(26) as u8),
            7 => char::from(b' ' + self.below(95) as u8),
            8 => self.choose(&['"', '\'', '\\', '\n', '\t', '\u{1b}', '\u{7f}', '_', '@']),
            9 => char::from_u32(0xa0 + self.below(0x60) as u32).unwrap(),
            10 => self.choose(&['ł', '日', '🦀', 'ß', 'Ω', 'ÿ', '÷']),
            _ => char::from_u32(self.below(0x100) as u32).unwrap(),
        }
    }

    fn text(&mut self, most: usize) -> String {
        let plain = self.one_in(2);
        let long = self.below(most);
        (0..long).map(|_| if plain { char::from(b'a' + self.below(26) as u8) } else { self.letter() }).collect()
    }

    fn integer(&mut self) -> Term {
        match self.below(6) {
            0 => Term::Int(self.next() as i64),
            1 => Term::Int(self.choose(&[
                0,
                255,
                256,
                -1,
                1 << 31,
                -(1 << 31),
                (1 << 31) - 1,
                i64::MIN,
                i64::MAX,
                1 << 59,
            ])),
            2 => {
                let long = 9 + self.below(300);
                let mut magnitude: Vec<u8> = (0..long).map(|_| self.next() as u8).collect();
                magnitude.push(1);
                Term::Big(self.one_in(2), magnitude)
            }
            _ => Term::Int(self.below(1000) as i64 - 300),
        }
    }

    fn float(&mut self) -> Term {
        let value = match self.below(4) {
            0 => f64::from_bits(self.next()),
            1 => self.below(100_000) as f64 / 100.0,
            2 => self.choose(&[
                0.0,
                -0.0,
                1.0,
                0.1,
                1e22,
                1e23,
                1e-7,
                9_007_199_254_740_992.0,
                4_503_599_627_370_497.5,
                5e-324,
            ]),
            _ => 10_f64.powi(self.below(40) as i32 - 20) * (1 + self.below(99)) as f64,
        };
        Term::Float(if value.is_finite() { value } else { 1.5 })
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.below(3) {
            0 => self.text(60).into_bytes(),
            1 => self.text(60).chars().map(|letter| u32::from(letter) as u8).collect(),
            _ => {
                let long = self.below(70);
                (0..long).map(|_| self.next() as u8).collect()
            }
        }
    }

    /// Returns a random term of at most this nesting depth.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub(crate) fn term(&mut self, depth: usize) -> Term {
        let many = |chance: &mut TermRng| {
            let most = chance.choose(&[2, 4, 4, 12]);
            let count = chance.below(most);
            (0..count).map(|_| chance.term(depth - 1)).collect::<Vec<_>>()
        };
        match self.below(if depth == 0 { 7 } else { 14 }) {
            0 => self.integer(),
            1 => self.float(),
            2 | 3 => Term::Atom(self.text(20)),
            4 => Term::string(&self.text(50)),
            5 => Term::Binary(self.bytes()),
            6 if self.one_in(3) => {
                let (mut bytes, bits) = (self.bytes(), 1 + self.below(7) as u8);
                bytes.push(self.next() as u8 & !(0xff >> bits));
                Term::Bits(bytes, bits)
            }
            6 => Term::atom(self.choose(&["ok", "end", "undefined", "maybe", "Elixir.Foo", "ÿx", "a b", ""])),
            7 | 8 => Term::List(many(self)),
            9 | 10 => Term::Tuple(many(self)),
            11 => {
                let mut elements = vec![Term::Atom(self.text(12))];
                elements.extend(many(self));
                Term::Tuple(elements)
            }
            12 => {
                let mut elements = many(self);
                elements.push(self.term(0));
                match self.term(0) {
                    Term::List(tail) => {
                        elements.extend(tail);
                        Term::List(elements)
                    }
                    tail => Term::Improper(elements, Box::new(tail)),
                }
            }
            _ => {
                let mut pairs: Vec<(Term, Term)> = Vec::new();
                for key in many(self) {
                    if !pairs.iter().any(|(known, _)| same_map_key(known, &key)) {
                        pairs.push((key, self.term(depth - 1)));
                    }
                }
                Term::Map(pairs)
            }
        }
    }
}

/// Returns true if both terms are the same map key, regardless of the order of their own keys.
fn same_map_key(one: &Term, other: &Term) -> bool {
    let sorted = |term: &Term| {
        let mut term = term.clone();
        term.sort_maps();
        term.to_string().replace("-0.0", "0.0")
    };
    sorted(one) == sorted(other)
}

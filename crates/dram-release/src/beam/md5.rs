//! MD5 (RFC 1321). Erlang identifies modules by it; it must not be used for security.
//!
//! `dram-start` has its own, for one slice and without tables made at run time: the start program is small and knows no
//! other crate. The vectors in `tests/md5-vectors.txt` hold for both.

/// The rotation of each step, for each of the four rounds.
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// Returns the MD5 digest of the concatenated parts.
pub(super) fn md5<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 16] {
    let mut state = Md5State { words: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476], table: sine_table() };
    let (mut block, mut filled, mut length) = ([0_u8; 64], 0, 0_u64);
    for mut part in parts {
        length = length.wrapping_add(part.len() as u64);
        if filled > 0 {
            let taken = part.len().min(64 - filled);
            block[filled..filled + taken].copy_from_slice(&part[..taken]);
            filled += taken;
            part = &part[taken..];
            if filled < 64 {
                continue;
            }
            state.process_block(&block);
        }
        let (whole, rest) = part.as_chunks::<64>();
        whole.iter().for_each(|block| state.process_block(block));
        block[..rest.len()].copy_from_slice(rest);
        filled = rest.len();
    }
    block[filled] = 0x80;
    block[filled + 1..].fill(0);
    if filled >= 56 {
        state.process_block(&block);
        block.fill(0);
    }
    block[56..].copy_from_slice(&length.wrapping_mul(8).to_le_bytes());
    state.process_block(&block);
    let mut out = [0; 16];
    for (place, word) in out.chunks_exact_mut(4).zip(state.words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// The integer part of 2³² × |sin(step)|, for each step from 1.
fn sine_table() -> [u32; 64] {
    std::array::from_fn(|step| ((step as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32)
}

struct Md5State {
    words: [u32; 4],
    table: [u32; 64],
}

impl Md5State {
    fn process_block(&mut self, block: &[u8; 64]) {
        let (letters, _) = block.as_chunks::<4>();
        let letter = |at: usize| u32::from_le_bytes(letters[at]);
        let [mut a, mut b, mut c, mut d] = self.words;
        for step in 0..64 {
            let (mixed, at) = match step / 16 {
                0 => (d ^ (b & (c ^ d)), step),
                1 => (c ^ (d & (b ^ c)), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            let sum = a.wrapping_add(mixed).wrapping_add(self.table[step]).wrapping_add(letter(at));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(ROTATIONS[step / 16][step % 4]));
        }
        for (word, new) in self.words.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(parts: &[&[u8]]) -> String {
        md5(parts.iter().copied()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The examples of RFC 1321, and lengths around the block size from `md5sum`.
    const VECTORS: &str = include_str!("../../../../tests/md5-vectors.txt");

    #[test]
    fn digests_equal_the_vectors_however_the_input_is_split() {
        for (digest, text) in VECTORS.lines().filter_map(|line| line.split_once(' ')) {
            assert_eq!(hex(&[text.as_bytes()]), digest, "{text}");
            for at in 0..text.len() {
                let (one, other) = text.as_bytes().split_at(at);
                assert_eq!(hex(&[one, b"", other]), digest, "{text} at {at}");
            }
        }
        assert_eq!(hex(&[]), hex(&[b""]));
        assert_eq!(VECTORS.lines().count(), 14);
    }
}

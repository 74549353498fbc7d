//! Which mutants are tried.

use crate::mutants::mutant::Mutant;

/// Draws `count` of these mutants. The same seed draws the same ones, and what changes elsewhere in the program
/// changes little of what is drawn: each mutant's lot depends on its name only.
pub fn draw<'a>(mutants: impl Iterator<Item = (usize, &'a Mutant)>, seed: u64, count: usize) -> Vec<usize> {
    let mut lots: Vec<_> = mutants
        .map(|(number, mutant)| (lot(&mutant.key(), seed), number))
        .collect();
    lots.sort_unstable();
    lots.truncate(count);
    let mut drawn: Vec<_> = lots.into_iter().map(|(_, number)| number).collect();
    drawn.sort_unstable();
    drawn
}

/// FNV-1a, begun by the seed and finished by the mixer of SplitMix64.
fn lot(name: &str, seed: u64) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ mix(seed), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    mix(hash)
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

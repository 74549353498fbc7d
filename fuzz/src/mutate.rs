//! Changes to an input, the same on every machine and in every run.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Mutator(u64);

/// No mutation grows an input beyond this.
const MAX_LEN: usize = 64 * 1024;

/// What parsers tend to stumble over.
const TOKENS: [&[u8]; 16] = [
    b"",
    b"\0",
    b"/../",
    b"%2e%2e",
    b"\xff\xfe",
    b"18446744073709551616",
    b"-1",
    b"{",
    b"\"",
    b"[[[[",
    b"\n---\n",
    b": &a *a",
    b"@",
    b":",
    &[0xff; 9],
    &[0; 9],
];

impl Mutator {
    /// A mutator whose whole future is `seed`.
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed)
    }

    fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.any() % end.max(1) as u64).unwrap_or(0)
    }

    /// `input` with one to four changes; `other` is where splices come from.
    pub fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, other);
        }
        bytes.truncate(MAX_LEN);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(32)).min(bytes.len());
        match self.below(7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                let with = self.any().to_le_bytes()[0];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = with;
                }
            }
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(at..end.min(at + token.len()), token.iter().copied());
            }
            _ => {
                let from = self.below(other.len() + 1);
                let to = (from + self.below(256)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
}

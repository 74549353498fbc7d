//! Randomness that nobody else has seen: incarnations, lease tokens, operation ids.
//!
//! It comes from the operating system, and under the simulator from the seed of the run.

const NO_SOURCE: &str = "the operating system has no source of randomness; without one, ids would repeat";

/// 64 fresh random bits.
pub fn fresh_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// 128 fresh random bits: enough to name things without asking anyone.
pub fn fresh_u128() -> u128 {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

/// Linux cannot fail this call once booted, and there is no safe way on when it does.
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect(NO_SOURCE);
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(fresh_u64(), fresh_u64());
        assert_ne!(fresh_u128(), fresh_u128());
    }
}

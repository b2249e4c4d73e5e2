//! Random numbers that never change between machines or versions, which "same seed, same text" needs.

/// Sebastiano Vigna's `SplitMix64`.
#[derive(Clone)]
pub(super) struct SplitMix(u64);

impl SplitMix {
    /// A sequence; without a seed, a new one each time.
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self(seed.unwrap_or_else(fresh_seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1): 53 bits fit exactly.
    pub(super) fn next_unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A seed from the process's own source of randomness, that of hash tables: no dependency, no file.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::time::Instant::now())
}

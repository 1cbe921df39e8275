//! Which shard a key belongs to: FNV-1a (32 bit) of its bytes, modulo the number of shards.
//!
//! Source of the algorithm and of the test vectors: Fowler, Noll, Vo; draft-eastlake-fnv.

/// The numbers of shards that are allowed: powers of two from 1 to 1024.
pub const SHARDS_MAX: u32 = 1024;

/// FNV-1a, 32 bit.
#[must_use]
pub fn fnv1a32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// A number of shards that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardCount(u32);

impl ShardCount {
    /// Accepts powers of two from 1 to [`SHARDS_MAX`].
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        (count.is_power_of_two() && count <= SHARDS_MAX).then_some(Self(count))
    }

    /// How many.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// The shard of a key: `0 .. self.get()`.
    #[must_use]
    pub fn shard_of(self, key: &str) -> u32 {
        fnv1a32(key.as_bytes()) & (self.0 - 1)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::{ShardCount, fnv1a32};

    /// The published vectors of FNV-1a-32.
    #[test]
    fn hashes_the_published_vectors() {
        for (text, hash) in [
            ("", 0x811c_9dc5),
            ("a", 0xe40c_292c),
            ("b", 0xe70c_2de5),
            ("foobar", 0xbf9c_f968),
        ] {
            assert_eq!(fnv1a32(text.as_bytes()), hash, "{text:?}");
        }
    }

    /// Only powers of two from 1 to 1024 are accepted.
    #[test]
    fn refuses_other_counts() {
        for count in [1, 2, 8, 32, 128, 256, 1024] {
            assert_eq!(ShardCount::new(count).map(ShardCount::get), Some(count));
        }
        for count in [0, 3, 31, 33, 1000, 1025, 2048, u32::MAX] {
            assert_eq!(ShardCount::new(count), None, "{count}");
        }
    }

    /// 100,000 image digests spread evenly: no shard has more than 1.3 times the mean, and the differences are chance.
    #[test]
    fn spreads_digests_evenly() {
        let mut state = 0_u64;
        let mut word = || {
            // The generator is Steele, Lea and Flood's SplitMix64 ("Fast splittable pseudorandom number generators").
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        for count in [8, 32, 128, 256] {
            let shards = ShardCount::new(count).expect("a power of two");
            let mut loads = vec![0_u32; count as usize];
            for _ in 0..100_000 {
                let digest = format!("sha256:{:016x}{:016x}{:016x}{:016x}", word(), word(), word(), word());
                if let Some(load) = loads.get_mut(shards.shard_of(&digest) as usize) {
                    *load += 1;
                }
            }
            let mean = 100_000.0 / f64::from(count);
            let highest = f64::from(loads.iter().copied().max().unwrap_or_default());
            assert!(
                highest <= 1.3 * mean,
                "{count} shards: {highest} on one, {mean} on the mean one"
            );
            let chi_square: f64 = loads.iter().map(|load| (f64::from(*load) - mean).powi(2) / mean).sum();
            // Mean and variance of the chi-square distribution are its degrees of freedom and twice that.
            let freedom = f64::from(count - 1);
            let bound = freedom + 4.0 * (2.0 * freedom).sqrt();
            assert!(
                chi_square < bound,
                "{count} shards: chi-square {chi_square}, expected below {bound}"
            );
        }
    }
}

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
}

//! The number of the last commit, noted beside the data file: 8 bytes of number and 4 of checksum, little endian.
//!
//! It is noted after each commit and never synced: after a power loss it may say too little, never too much. A data file
//! that is behind it has lost a commit that was acknowledged.

use ticketlock_core::sharding::fnv1a32;

/// What was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// It cannot be believed.
    Nonsense,
    /// The last commit was this one, or a later one.
    AtLeast(u64),
}

/// Reads a note.
pub(super) fn decode(noted: Option<&[u8]>) -> Said {
    let Some(bytes) = noted else { return Said::Nothing };
    let number = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    match number {
        Some(number) if bytes == encode(number) => Said::AtLeast(number),
        _ => Said::Nonsense,
    }
}

/// What is noted after this commit.
pub(super) fn encode(number: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    tail.copy_from_slice(&fnv1a32(&number.to_le_bytes()).to_le_bytes());
    bytes
}

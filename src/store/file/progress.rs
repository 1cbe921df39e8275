//! The number of the last commit, beside the data file: 8 bytes of number and 4 of checksum, little endian.
//!
//! It is written after each commit and never synced: after a power loss it may say too little, never too much. A data
//! file that is behind it has lost a commit that was acknowledged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ticketlock_core::sharding::fnv1a32;

/// The open file.
pub(super) struct Progress(File);

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// There was no file.
    Nothing,
    /// It cannot be believed.
    Nonsense,
    /// The last commit was this one, or a later one.
    AtLeast(u64),
}

impl Progress {
    /// Opens or makes it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Said)> {
        let said = read(path)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        Ok((Self(file), said))
    }

    /// A commit is done.
    pub(super) fn write(&self, number: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(number), 0)
    }
}

/// What the file says.
pub(super) fn read(path: &Path) -> io::Result<Said> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Said::Nothing),
        Err(error) => return Err(error),
    };
    let number = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    Ok(match number {
        Some(number) if bytes == encode(number) => Said::AtLeast(number),
        _ => Said::Nonsense,
    })
}

fn encode(number: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    tail.copy_from_slice(&fnv1a32(&number.to_le_bytes()).to_le_bytes());
    bytes
}

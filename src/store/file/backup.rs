//! Copies of a store: made while it serves, and made into a store again.

use std::fs::File;
use std::io;
use std::path::Path;

use ticketlock_core::types::Number;

use super::database::{Data, Snapshot};
use super::{About, Claim, DATA, DATA_NEW, OpenError, claim, damaged, io_error, load, refused};

/// Where a copy is written before it is read.
const COPY: &str = "backup.new";

/// Writes what the snapshot sees into a file of its own, and gives it without a name: it is gone when it is closed.
pub(super) fn copy(snapshot: &Snapshot, dir: &Path) -> io::Result<File> {
    let path = dir.join(COPY);
    remove(&path)?;
    let copied = snapshot.copy_to(&path).map_err(io::Error::other);
    let file = copied.and_then(|()| File::open(&path));
    remove(&path)?;
    file
}

/// Makes a store of a backup in a directory that has none. It gets this identity, since its history is another one from
/// here on, and its counters go on above unix seconds x 2^20: tokens that were given after the backup do not come again.
pub fn restore(backup: &Path, dir: &Path, store_id: [u8; 16], unix_seconds: u64) -> Result<About, OpenError> {
    let _claim = claim(dir)?;
    let path = dir.join(DATA);
    if path.try_exists().map_err(|error| io_error(dir, error))? {
        let error = io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a store is there already; nothing was changed",
        );
        return Err(io_error(dir, error));
    }
    let new = dir.join(DATA_NEW);
    std::fs::copy(backup, &new).map_err(|error| io_error(backup, error))?;
    let restored = (|| {
        let mut data = Data::open(&new).map_err(|failure| refused(backup, &failure))?;
        let renewed = data.renew(store_id, unix_seconds << 20);
        renewed.map_err(|failure| damaged(backup, failure.to_string()))?;
        Ok(data.about())
    })();
    if restored.is_err() {
        remove(&new).map_err(|error| io_error(dir, error))?;
        return restored;
    }
    let named = std::fs::rename(&new, &path).and_then(|()| File::open(dir)?.sync_all());
    named.map_err(|error| io_error(dir, error))?;
    restored
}

/// A store that nobody serves, to be looked at.
pub struct Offline {
    data: Data,
    _claim: Claim,
}

impl Offline {
    /// Opens and checks it, as a server would.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        if !dir.join(DATA).try_exists().map_err(|error| io_error(dir, error))? {
            let error = io::Error::new(io::ErrorKind::NotFound, "there is no store");
            return Err(io_error(dir, error));
        }
        let claim = claim(dir)?;
        let missing = |_: &Path| Err(super::Failure::Damaged("it is missing".to_owned()));
        let (data, _) = load(dir, missing)?;
        Ok(Self { data, _claim: claim })
    }

    /// What it says of itself.
    #[must_use]
    pub fn about(&self) -> About {
        self.data.about()
    }

    /// A shard's epoch and records.
    pub fn shard(&self, shard: u32) -> io::Result<(u64, ticketlock_core::record::Records)> {
        let taken = self.data.read(shard).map_err(io::Error::other)?;
        Ok((taken.epoch, taken.records))
    }

    /// The highest number that was ever given, of all shards.
    pub fn highest_mark(&self) -> io::Result<Number> {
        let mut highest = 0;
        for shard in 0..self.about().shards.get() {
            highest = highest.max(self.shard(shard)?.1.mark);
        }
        Ok(highest)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

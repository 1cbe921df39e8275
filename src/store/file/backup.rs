//! Copies of a store: made while it serves, and made into a store again.

use std::fs::File;
use std::io;
use std::path::Path;

use ticketlock_core::types::Number;

use super::database::{Data, Snapshot};
use super::disk::{Disk as _, Folder};
use super::{About, DATA, DATA_NEW, OpenError, damaged, io_error, load, progress, refused, shown};

/// Where a copy is written before it is read.
const COPY: &str = "backup.new";

/// Writes what the snapshot sees into a file of its own, and gives it without a name: it is gone when it is closed. One at
/// a time: they have one name.
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
    let folder = Folder::claim(dir)?;
    let failed = |error| io_error(&shown(dir), error);
    if folder.exists(DATA).map_err(failed)? {
        let error = io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a store is there already; nothing was changed",
        );
        return Err(failed(error));
    }
    std::fs::copy(backup, dir.join(DATA_NEW)).map_err(|error| io_error(&shown(backup), error))?;
    let restored = (|| {
        let backup = &shown(backup);
        let mut data = Data::open(&folder, DATA_NEW).map_err(|failure| refused(backup, &failure))?;
        let renewed = data.renew(store_id, unix_seconds << 20);
        renewed.map_err(|failure| damaged(backup, failure.to_string()))?;
        Ok(data.about())
    })();
    if restored.is_err() {
        folder.remove(DATA_NEW).map_err(failed)?;
        return restored;
    }
    // A note of an earlier store here would be held against this one.
    let commits = restored.as_ref().map_or(0, |about| about.commits);
    let named = folder
        .note(&progress::encode(commits))
        .and_then(|()| folder.sync_note())
        .and_then(|()| folder.rename(DATA_NEW, DATA))
        .and_then(|()| folder.sync_names());
    named.map_err(failed)?;
    restored
}

/// A store that nobody serves, to be looked at.
pub struct Offline {
    data: Data,
    _folder: Folder,
}

impl Offline {
    /// Opens and checks it, as a server would.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let failed = |error| io_error(&shown(dir), error);
        if !dir.join(DATA).try_exists().map_err(failed)? {
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, "there is no store")));
        }
        let folder = Folder::claim(dir)?;
        let missing = |_: &str| Err(super::Failure::Damaged("it is missing".to_owned()));
        let data = load(&folder, missing)?;
        Ok(Self { data, _folder: folder })
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

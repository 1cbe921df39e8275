//! The file store: every acknowledged change survives `kill -9` and power loss. One process, one directory.
//!
//! The directory holds `locks.redb`, all records (see `database`, `format`); `progress`, the number of the last commit;
//! `ballast`, space for when the disk is full; `lock`, held by the one process that may write, which says who that is.

mod backup;
mod committer;
mod database;
mod disk;
mod format;
mod progress;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::planted::{Bug, planted};
use ticketlock_core::record::Change;
use ticketlock_core::sharding::ShardCount;

use super::{BoxFuture, Commit, CommitLimits, Store, StoreError, Taken};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Mutex, Ordering, oneshot};
use committer::{Committer, Desk, Job};
use database::{Data, Failure};
use disk::Folder;
use progress::Said;

pub use backup::{Offline, restore};
pub use database::About;
pub use disk::{CACHE_BYTES, Disk};
#[doc(hidden)]
pub use format::fuzz_record;

/// The data file.
const DATA: &str = "locks.redb";
/// The data file while it is made.
const DATA_NEW: &str = "locks.redb.new";

/// Why a directory could not be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{dir} is in use by {by}: one server has one directory")]
    InUse {
        /// Which directory.
        dir: String,
        /// Who, in its own words.
        by: String,
    },
    /// It was made for another number of shards.
    #[error(
        "{dir} was made for {recorded} shards, not {asked}: the number cannot be changed; start with --shards {recorded}"
    )]
    Shards {
        /// Which directory.
        dir: String,
        /// At its first start.
        recorded: u32,
        /// Now.
        asked: u32,
    },
    /// What was acknowledged is not all there.
    #[error(
        "{dir} is damaged: {what}. Restore a backup with `ticketlock restore BACKUP NEW-DIR`, or, if what was held no \
         longer matters, move {dir} away and start without it: fencing tokens grow all the same"
    )]
    Damaged {
        /// Which directory.
        dir: String,
        /// What is wrong.
        what: String,
    },
    /// The disk or the rights.
    #[error("{dir}: {error}")]
    Io {
        /// Which directory.
        dir: String,
        /// What the system says.
        error: io::Error,
    },
}

/// Keeps all in one directory.
pub struct FileStore {
    disk: Arc<dyn Disk>,
    about: About,
    desk: Arc<Desk>,
    committer: Option<JoinHandle<()>>,
    /// Held while a copy is made.
    copying: Arc<Mutex<()>>,
}

impl FileStore {
    /// Opens a directory, or begins one with this identity. `unix_seconds` is the wall clock at this start: a new
    /// store's counter begins at unix seconds x 2^20, so that tokens grow even where a directory was lost. Commits are
    /// made by a thread of its own.
    pub fn open(dir: &Path, store_id: [u8; 16], shards: ShardCount, unix_seconds: u64) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Folder::claim(dir)?), store_id, shards, unix_seconds)
    }

    /// The same on another kind of disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        shards: ShardCount,
        unix_seconds: u64,
    ) -> Result<Self, OpenError> {
        let name = disk.name();
        let (mut store, committer) = Self::on(disk, store_id, shards, unix_seconds)?;
        let thread = thread::Builder::new().name("committer".to_owned());
        let thread = thread.spawn(move || committer.run());
        store.committer = Some(thread.map_err(|error| io_error(&name, error))?);
        Ok(store)
    }

    /// The same on a disk that is simulated, and the task that makes the commits: each after a pause that stands for the
    /// time that a disk takes.
    pub fn simulated(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        shards: ShardCount,
        unix_seconds: u64,
        pause: impl Fn() -> Duration + Send + 'static,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), OpenError> {
        let (store, committer) = Self::on(disk, store_id, shards, unix_seconds)?;
        Ok((store, committer.run_in_task(pause)))
    }

    fn on(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        shards: ShardCount,
        unix_seconds: u64,
    ) -> Result<(Self, Committer), OpenError> {
        let make = |file: &str| Data::create(&*disk, file, store_id, shards, unix_seconds << 20);
        let data = load(&*disk, make)?;
        let about = data.about();
        if about.shards != shards {
            return Err(OpenError::Shards {
                dir: disk.name(),
                recorded: about.shards.get(),
                asked: shards.get(),
            });
        }
        let desk = Desk::new();
        if let Err(error) = disk.reserve() {
            tracing::error!(%error, "no space is left in reserve: no new tickets are taken until there is");
            desk.full.store(true, Ordering::SeqCst);
        }
        let mut epochs = Vec::new();
        for shard in 0..shards.get() {
            let taken = data.read(shard).map_err(|failure| refused(&disk.name(), &failure))?;
            epochs.push(taken.epoch);
        }
        let committer = Committer {
            desk: Arc::clone(&desk),
            disk: Arc::clone(&disk),
            data: Some(data),
            epochs,
        };
        let store = Self {
            disk,
            about,
            desk,
            committer: None,
            copying: Arc::default(),
        };
        Ok((store, committer))
    }

    /// What it says of itself.
    #[must_use]
    pub fn about(&self) -> About {
        self.about
    }

    /// Waits until the disk or the data file has failed; why. The process is to end then: nothing is acknowledged any
    /// more.
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut failure = self.desk.failure.subscribe();
        async move {
            let told = failure.wait_for(Option::is_some).await.map(|text| text.clone());
            match told {
                Ok(text) => text.unwrap_or_default(),
                // The store was dropped before it could fail.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Drop for FileStore {
    /// Waits for the commit under way, so that the directory can be opened again; but not where that is what drops the
    /// store, in the committer's own turn.
    fn drop(&mut self) {
        self.desk.close();
        if let Some(committer) = self.committer.take()
            && committer.thread().id() != thread::current().id()
        {
            let _ = committer.join();
        }
    }
}

impl Store for FileStore {
    fn store_id(&self) -> [u8; 16] {
        self.about.store_id
    }

    fn name(&self) -> &'static str {
        "file"
    }

    fn durability(&self) -> &'static str {
        "synced to the disk before it is acknowledged"
    }

    fn outlives_the_process(&self) -> bool {
        true
    }

    fn limits(&self) -> CommitLimits {
        CommitLimits {
            changes_max: 4096,
            bytes_max: 4 * 1024 * 1024,
        }
    }

    fn is_full(&self) -> bool {
        self.desk.full.load(Ordering::SeqCst)
    }

    fn take(&self, shard: u32) -> BoxFuture<'_, Result<Taken, StoreError>> {
        Box::pin(async move {
            if shard >= self.about.shards.get() {
                return Err(StoreError::Unavailable(format!("there is no shard {shard}")));
            }
            let (answer, taken) = oneshot::channel();
            self.desk.put(Job::Take { shard, answer });
            taken.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn commit(&self, shard: u32, epoch: u64, changes: Vec<Change>) -> Commit {
        let (answer, done) = oneshot::channel();
        self.desk.put(Job::Commit {
            shard,
            epoch,
            changes,
            answer,
        });
        if planted(Bug::AnsweredBeforeSync) {
            return Commit::Done(Ok(()));
        }
        Commit::Pending(Box::pin(async move { done.await.unwrap_or_else(|_| Err(gone())) }))
    }

    fn backup(&self) -> BoxFuture<'_, Result<File, StoreError>> {
        Box::pin(async move {
            let (answer, snapshot) = oneshot::channel();
            self.desk.put(Job::Snapshot(answer));
            let snapshot = snapshot.await.unwrap_or_else(|_| Err(gone()))?;
            let (answer, copied) = oneshot::channel();
            let unavailable = |error: io::Error| StoreError::Unavailable(error.to_string());
            let dir = self.disk.path().map(Path::to_owned);
            let dir = dir.ok_or_else(|| unavailable(io::ErrorKind::Unsupported.into()))?;
            // A thread of its own: it reads and writes as long as it takes.
            let one = Arc::clone(&self.copying);
            let copying = thread::Builder::new().name("backup".to_owned()).spawn(move || {
                let _one = one.lock();
                answer.send(backup::copy(&snapshot, &dir))
            });
            copying.map_err(unavailable)?;
            copied
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
                .map_err(unavailable)
        })
    }

    fn give_back(&self, shard: u32, epoch: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            match self.commit(shard, epoch, Vec::new()) {
                Commit::Done(result) => result,
                Commit::Pending(pending) => pending.await,
            }
        })
    }
}

/// The committer has ended: what was asked of it was or was not done.
fn gone() -> StoreError {
    StoreError::Unknown("the file store has failed".to_owned())
}

/// Opens the data file of a disk, or makes it; refuses one that lost what was acknowledged.
fn load(disk: &dyn Disk, create: impl FnOnce(&str) -> Result<Data, Failure>) -> Result<Data, OpenError> {
    let name = disk.name();
    let failed = |error| io_error(&name, error);
    let said = progress::decode(disk.noted().map_err(failed)?.as_deref());
    if !disk.exists(DATA).map_err(failed)? {
        if let Said::AtLeast(commits) = said {
            return Err(damaged(
                &name,
                format!("{DATA} is missing, with {commits} commits in it"),
            ));
        }
        // Under another name first, so that it is there as a whole or not at all.
        let made = || -> io::Result<()> {
            disk.remove(DATA_NEW)?;
            drop(create(DATA_NEW).map_err(io::Error::other)?);
            disk.rename(DATA_NEW, DATA)?;
            if planted(Bug::NameNotSynced) {
                return Ok(());
            }
            disk.sync_names()
        };
        made().map_err(failed)?;
    }
    let data = Data::open(disk, DATA).map_err(|failure| refused(&name, &failure))?;
    let commits = data.about().commits;
    match said {
        Said::AtLeast(before) if commits < before => {
            let what = format!("the last commit in {DATA} is number {commits}, and number {before} was acknowledged");
            return Err(damaged(&name, what));
        }
        Said::Nonsense => tracing::warn!("the file `progress` could not be read; {DATA} is intact"),
        _ => {}
    }
    disk.note(&progress::encode(commits)).map_err(failed)?;
    Ok(data)
}

fn refused(dir: &str, failure: &Failure) -> OpenError {
    match failure {
        Failure::Redb(redb::Error::DatabaseAlreadyOpen) => OpenError::InUse {
            dir: dir.to_owned(),
            by: "another process".to_owned(),
        },
        failure if failure.is_damage() => damaged(dir, failure.to_string()),
        failure => io_error(dir, io::Error::other(failure.to_string())),
    }
}

fn damaged(dir: &str, what: String) -> OpenError {
    OpenError::Damaged {
        dir: dir.to_owned(),
        what,
    }
}

fn io_error(dir: &str, error: io::Error) -> OpenError {
    OpenError::Io {
        dir: dir.to_owned(),
        error,
    }
}

fn shown(dir: &Path) -> String {
    dir.display().to_string()
}

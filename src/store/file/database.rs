//! The data file: one redb database for all shards, and what one commit writes to it.
//!
//! redb checks its own pages: each has a checksum, and a commit that a crash cut short falls back to the one before.
//! So that this never hides damage to a commit that was acknowledged, commits are numbered, and the number of the last
//! one also goes to a small file beside (see [`super::progress`]).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use ticketlock_core::record::{Change, Records};
use ticketlock_core::sharding::ShardCount;
use ticketlock_core::types::Number;

use super::disk::Disk;
use super::format;
use crate::store::Taken;

/// What this version writes, and the only one that it reads.
pub(super) const FORMAT: u64 = 1;

/// `format`, `shards`, `commit`: the number of the last commit.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The store's identity under 0.
const IDENTITY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("identity");
/// By shard: epoch, mark, base.
const SHARDS: TableDefinition<'_, u32, (u64, u64, u64)> = TableDefinition::new("shards");
/// By shard and ticket.
const TICKETS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("tickets");
/// By shard and number.
const ENDS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("ends");
/// By shard and key.
const OUTCOMES: TableDefinition<'_, (u32, &str), &[u8]> = TableDefinition::new("outcomes");

/// What is known of a store without its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its identity.
    pub store_id: [u8; 16],
    /// Recorded at its first start.
    pub shards: ShardCount,
    /// Commits so far.
    pub commits: u64,
}

/// Why the data file could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The file, the disk, or redb.
    #[error(transparent)]
    Redb(#[from] redb::Error),
    /// What is in it makes no sense.
    #[error("{0}")]
    Damaged(String),
}

impl Failure {
    /// There is no space left: what was asked for is undone when the file is opened again.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Redb(redb::Error::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull
            || error.kind() == std::io::ErrorKind::QuotaExceeded)
    }

    /// Nothing that was acknowledged can be trusted to be there.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Redb(redb::Error::Corrupted(_) | redb::Error::RepairAborted) => true,
            // redb's own word for a file that is shorter than it says, or none of its own.
            Self::Redb(redb::Error::Io(error)) => matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput
            ),
            Self::Redb(_) => false,
        }
    }
}

/// redb has an error type for each of its calls; they are all told alike.
fn redb<T, E: Into<redb::Error>>(result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Redb(error.into()))
}

/// An open data file.
pub(super) struct Data {
    database: Database,
    about: About,
}

impl Data {
    /// A new data file with its first commit. `base` is where every shard's counter begins.
    pub(super) fn create(
        disk: &dyn Disk,
        file: &str,
        store_id: [u8; 16],
        shards: ShardCount,
        base: Number,
    ) -> Result<Self, Failure> {
        let database = redb(disk.data(file, true))?;
        let about = About {
            store_id,
            shards,
            commits: 0,
        };
        let mut data = Self { database, about };
        let rows = (0..shards.get()).map(|shard| {
            (
                shard,
                Row {
                    epoch: 0,
                    mark: base,
                    base,
                },
            )
        });
        let batch = Batch {
            rows: rows.collect(),
            ..Batch::default()
        };
        data.write(&batch, |transaction| {
            let mut meta = redb(transaction.open_table(META))?;
            redb(meta.insert("format", FORMAT))?;
            redb(meta.insert("shards", u64::from(shards.get())))?;
            redb(redb(transaction.open_table(IDENTITY))?.insert(0, store_id.as_slice()))?;
            // So that readers find every table.
            redb(transaction.open_table(TICKETS))?;
            redb(transaction.open_table(ENDS))?;
            redb(transaction.open_table(OUTCOMES))?;
            Ok(())
        })?;
        Ok(data)
    }

    /// Opens a data file and checks all of it, page by page. redb is not known to panic on damage; if it does, that is
    /// damage too.
    pub(super) fn open(disk: &dyn Disk, file: &str) -> Result<Self, Failure> {
        catch_unwind(AssertUnwindSafe(|| Self::open_checked(disk, file)))
            .unwrap_or_else(|_| Err(Failure::Damaged("its pages contradict each other".to_owned())))
    }

    fn open_checked(disk: &dyn Disk, file: &str) -> Result<Self, Failure> {
        let mut database = redb(disk.data(file, false))?;
        // False: a commit that was cut short was undone, as after any crash. Its number will tell whether it counts.
        redb(database.check_integrity())?;
        let about = read_about(&database)?;
        let data = Self { database, about };
        for shard in 0..about.shards.get() {
            data.read(shard)?;
        }
        Ok(data)
    }

    /// What it says of itself.
    pub(super) fn about(&self) -> About {
        self.about
    }

    /// A shard's epoch, mark and records.
    pub(super) fn read(&self, shard: u32) -> Result<Taken, Failure> {
        let transaction = redb(self.database.begin_read())?;
        let row = row_of(
            redb(redb(transaction.open_table(SHARDS))?.get(shard))?.map(|row| row.value()),
            shard,
        )?;
        let mut records = Records {
            mark: row.mark,
            base: row.base,
            ..Records::default()
        };
        let unreadable = |what: &str, error| Failure::Damaged(format!("{what} of shard {shard}: {error}"));
        let all = (shard, 0)..=(shard, u64::MAX);
        for entry in redb(redb(transaction.open_table(TICKETS))?.range(all.clone()))? {
            let (name, bytes) = redb(entry)?;
            let ticket = format::ticket(name.value().1, bytes.value());
            records
                .tickets
                .push(ticket.map_err(|error| unreadable("a ticket", error))?);
        }
        for entry in redb(redb(transaction.open_table(ENDS))?.range(all))? {
            let (name, bytes) = redb(entry)?;
            let end = format::end(name.value().1, bytes.value());
            records.ends.push(end.map_err(|error| unreadable("an end", error))?);
        }
        for entry in redb(redb(transaction.open_table(OUTCOMES))?.range((shard, "")..))? {
            let (name, bytes) = redb(entry)?;
            let (of, key) = name.value();
            if of != shard {
                break;
            }
            let pending = format::pending(key, bytes.value());
            records
                .outcomes
                .push(pending.map_err(|error| unreadable("an outcome", error))?);
        }
        Ok(Taken {
            epoch: row.epoch,
            records,
        })
    }

    /// What it holds now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, Failure> {
        let transaction = redb(self.database.begin_read())?;
        Ok(Snapshot { transaction })
    }

    /// Gives it another identity, and raises every shard's mark to at least this.
    pub(super) fn renew(&mut self, store_id: [u8; 16], mark: Number) -> Result<(), Failure> {
        let marks = (0..self.about.shards.get()).map(|shard| (shard, mark));
        let batch = Batch {
            marks: marks.collect(),
            ..Batch::default()
        };
        self.write(&batch, |transaction| {
            redb(redb(transaction.open_table(IDENTITY))?.insert(0, store_id.as_slice()))?;
            Ok(())
        })?;
        self.about.store_id = store_id;
        Ok(())
    }

    /// Writes a batch, all of it or nothing, and syncs.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.write(batch, |_| Ok(()))
    }

    fn write(
        &mut self,
        batch: &Batch,
        also: impl FnOnce(&WriteTransaction) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let transaction = redb(self.database.begin_write())?;
        also(&transaction)?;
        batch.write(&transaction)?;
        let number = self.about.commits + 1;
        redb(redb(transaction.open_table(META))?.insert("commit", number))?;
        redb(transaction.commit())?;
        self.about.commits = number;
        Ok(())
    }
}

/// What a data file held at one point, while it goes on changing.
pub(super) struct Snapshot {
    transaction: ReadTransaction,
}

impl Snapshot {
    /// Writes all of it into a new data file.
    pub(super) fn copy_to(&self, path: &Path) -> Result<(), Failure> {
        let database = redb(Builder::new().create(path))?;
        let writing = redb(database.begin_write())?;
        self.copy_table(&writing, META)?;
        self.copy_table(&writing, IDENTITY)?;
        self.copy_table(&writing, SHARDS)?;
        self.copy_table(&writing, TICKETS)?;
        self.copy_table(&writing, ENDS)?;
        self.copy_table(&writing, OUTCOMES)?;
        redb(writing.commit())
    }

    fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        writing: &WriteTransaction,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(), Failure> {
        let mut copy = redb(writing.open_table(definition))?;
        for entry in redb(redb(self.transaction.open_table(definition))?.iter())? {
            let (name, value) = redb(entry)?;
            redb(copy.insert(name.value(), value.value()))?;
        }
        Ok(())
    }
}

/// What the file says of itself, if this version can read it.
fn read_about(database: &Database) -> Result<About, Failure> {
    let transaction = redb(database.begin_read())?;
    let meta = redb(transaction.open_table(META))?;
    let number = |name: &str| {
        let value = redb(meta.get(name))?.map(|value| value.value());
        value.ok_or_else(|| Failure::Damaged(format!("it does not say its {name}")))
    };
    let format = number("format")?;
    if format != FORMAT {
        let text = format!("it has format {format}, and this version reads format {FORMAT}");
        return Err(Failure::Damaged(text));
    }
    let shards = number("shards")?;
    let count = u32::try_from(shards).ok().and_then(ShardCount::new);
    let identity = redb(redb(transaction.open_table(IDENTITY))?.get(0))?;
    let store_id = identity.and_then(|id| id.value().try_into().ok());
    Ok(About {
        store_id: store_id.ok_or_else(|| Failure::Damaged("it does not say its identity".to_owned()))?,
        shards: count.ok_or_else(|| Failure::Damaged(format!("it says that it has {shards} shards")))?,
        commits: number("commit")?,
    })
}

/// What is kept of a shard besides its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) epoch: u64,
    pub(super) mark: Number,
    pub(super) base: Number,
}

fn row_of(row: Option<(u64, u64, u64)>, shard: u32) -> Result<Row, Failure> {
    let (epoch, mark, base) = row.ok_or_else(|| Failure::Damaged(format!("shard {shard} is missing")))?;
    Ok(Row { epoch, mark, base })
}

/// What one commit writes: of each record its last state only.
#[derive(Default)]
pub(super) struct Batch {
    rows: BTreeMap<u32, Row>,
    epochs: BTreeMap<u32, u64>,
    marks: BTreeMap<u32, Number>,
    tickets: BTreeMap<(u32, Number), Option<Vec<u8>>>,
    ends: BTreeMap<(u32, Number), Option<Vec<u8>>>,
    outcomes: BTreeMap<(u32, Arc<str>), Option<Vec<u8>>>,
}

impl Batch {
    /// A shard's new epoch.
    pub(super) fn epoch(&mut self, shard: u32, epoch: u64) {
        self.epochs.insert(shard, epoch);
    }

    /// A shard's changes, in their order.
    pub(super) fn add(&mut self, shard: u32, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Mark(mark) => {
                    let highest = self.marks.entry(shard).or_default();
                    *highest = mark.max(*highest);
                }
                Change::PutTicket(record) => {
                    let bytes = format::ticket_bytes(&record);
                    self.tickets.insert((shard, record.ticket), Some(bytes));
                }
                Change::DeleteTicket(ticket) => drop(self.tickets.insert((shard, ticket), None)),
                Change::PutEnd(record) => {
                    let bytes = format::end_bytes(&record);
                    self.ends.insert((shard, record.number), Some(bytes));
                }
                Change::DeleteEnd(number) => drop(self.ends.insert((shard, number), None)),
                Change::PutOutcome(record) => {
                    let bytes = format::pending_bytes(&record);
                    self.outcomes.insert((shard, record.key), Some(bytes));
                }
                Change::DeleteOutcome(key) => drop(self.outcomes.insert((shard, key), None)),
            }
        }
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), Failure> {
        self.write_rows(transaction)?;
        for (table, records) in [(TICKETS, &self.tickets), (ENDS, &self.ends)] {
            if records.is_empty() {
                continue;
            }
            let mut table = redb(transaction.open_table(table))?;
            for (name, bytes) in records {
                match bytes {
                    Some(bytes) => drop(redb(table.insert(name, bytes.as_slice()))?),
                    None => drop(redb(table.remove(name))?),
                }
            }
        }
        if !self.outcomes.is_empty() {
            let mut table = redb(transaction.open_table(OUTCOMES))?;
            for ((shard, key), bytes) in &self.outcomes {
                match bytes {
                    Some(bytes) => drop(redb(table.insert((*shard, &**key), bytes.as_slice()))?),
                    None => drop(redb(table.remove((*shard, &**key)))?),
                }
            }
        }
        Ok(())
    }

    /// Epochs and marks only grow.
    fn write_rows(&self, transaction: &WriteTransaction) -> Result<(), Failure> {
        if self.rows.is_empty() && self.epochs.is_empty() && self.marks.is_empty() {
            return Ok(());
        }
        let mut table = redb(transaction.open_table(SHARDS))?;
        for (shard, row) in &self.rows {
            redb(table.insert(shard, (row.epoch, row.mark, row.base)))?;
        }
        let shards: std::collections::BTreeSet<u32> = self.epochs.keys().chain(self.marks.keys()).copied().collect();
        for shard in shards {
            let before = redb(table.get(shard))?.map(|row| row.value());
            let row = row_of(before, shard)?;
            let epoch = self.epochs.get(&shard).copied().unwrap_or_default().max(row.epoch);
            let mark = self.marks.get(&shard).copied().unwrap_or_default().max(row.mark);
            redb(table.insert(shard, (epoch, mark, row.base)))?;
        }
        Ok(())
    }
}

//! The memory store: gone at exit.
//!
//! It keeps the records all the same, because a shard that is taken again in the same process must find them. Its
//! counter begins at unix seconds x 2^20, so that tokens still grow from one process to the next as long as the wall
//! clock does.

use std::collections::BTreeMap;
use std::sync::Arc;

use ticketlock_core::record::{Change, EndRecord, OutcomeRecord, Records, TicketRecord};
use ticketlock_core::sharding::ShardCount;
use ticketlock_core::types::Number;

use super::{BoxFuture, Commit, CommitLimits, Store, StoreError, Taken};
use crate::sync::Mutex;

/// Keeps all in this process.
pub struct MemoryStore {
    /// Made with the store.
    store_id: [u8; 16],
    /// By number.
    shards: Vec<Mutex<Kept>>,
}

/// What is kept of one shard. Ordered maps: they give memory back, and their order is no accident.
#[derive(Default)]
struct Kept {
    /// Of whoever may write; 0 while nobody has taken it.
    epoch: u64,
    /// The highest mark.
    mark: Number,
    /// Where the counter begins.
    base: Number,
    /// By ticket.
    tickets: BTreeMap<Number, Box<TicketRecord>>,
    /// By number.
    ends: BTreeMap<Number, EndRecord>,
    /// By key.
    outcomes: BTreeMap<Arc<str>, OutcomeRecord>,
}

impl MemoryStore {
    /// An empty store. `unix_seconds` is the wall clock at this start.
    #[must_use]
    pub fn new(store_id: [u8; 16], shards: ShardCount, unix_seconds: u64) -> Self {
        let base = unix_seconds << 20;
        let kept = || {
            Mutex::new(Kept {
                base,
                mark: base,
                ..Kept::default()
            })
        };
        Self {
            store_id,
            shards: (0..shards.get()).map(|_| kept()).collect(),
        }
    }

    /// The shard's records, or why there are none.
    fn kept(&self, shard: u32) -> Result<&Mutex<Kept>, StoreError> {
        let index = usize::try_from(shard).unwrap_or(usize::MAX);
        self.shards
            .get(index)
            .ok_or_else(|| StoreError::Unavailable(format!("there is no shard {shard}")))
    }
}

impl Store for MemoryStore {
    fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    fn name(&self) -> &'static str {
        "memory"
    }

    fn durability(&self) -> &'static str {
        "gone at exit, and exclusion with it"
    }

    fn outlives_the_process(&self) -> bool {
        false
    }

    fn limits(&self) -> CommitLimits {
        CommitLimits::UNLIMITED
    }

    fn take(&self, shard: u32) -> BoxFuture<'_, Result<Taken, StoreError>> {
        Box::pin(async move { self.kept(shard).map(|kept| kept.lock().take()) })
    }

    fn commit(&self, shard: u32, epoch: u64, changes: Vec<Change>) -> Commit {
        Commit::Done(self.kept(shard).and_then(|kept| kept.lock().commit(epoch, changes)))
    }

    fn give_back(&self, shard: u32, epoch: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.kept(shard).and_then(|kept| kept.lock().commit(epoch, Vec::new())) })
    }
}

impl Kept {
    /// Raises the epoch, then reads.
    fn take(&mut self) -> Taken {
        self.epoch += 1;
        let records = Records {
            mark: self.mark,
            base: self.base,
            tickets: self
                .tickets
                .values()
                .map(|record| TicketRecord::clone(record))
                .collect(),
            ends: self.ends.values().cloned().collect(),
            outcomes: self.outcomes.values().cloned().collect(),
        };
        Taken {
            epoch: self.epoch,
            records,
        }
    }

    /// Applies all changes, if `epoch` is the present one.
    fn commit(&mut self, epoch: u64, changes: Vec<Change>) -> Result<(), StoreError> {
        if epoch != self.epoch {
            return Err(StoreError::Fenced);
        }
        for change in changes {
            match change {
                Change::Mark(mark) => self.mark = self.mark.max(mark),
                Change::PutTicket(record) => drop(self.tickets.insert(record.ticket, record)),
                Change::DeleteTicket(ticket) => drop(self.tickets.remove(&ticket)),
                Change::PutEnd(record) => drop(self.ends.insert(record.number, record)),
                Change::DeleteEnd(number) => drop(self.ends.remove(&number)),
                Change::PutOutcome(record) => drop(self.outcomes.insert(Arc::clone(&record.key), record)),
                Change::DeleteOutcome(key) => drop(self.outcomes.remove(&key)),
            }
        }
        Ok(())
    }
}

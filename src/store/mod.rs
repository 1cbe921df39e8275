//! Where a shard's records are kept.
//!
//! It owns the [`Store`] trait and its implementations. It knows the rules' records and nothing of gRPC, streams or
//! tasks: a store is told what to commit, and says how that went. What every store must do is written as one contract
//! suite, `tests/store_contract.rs`.

pub mod faulty;
pub mod file;
pub mod memory;

use std::fs::File;
use std::future::Future;
use std::pin::Pin;

use ticketlock_core::record::{Change, Records};

pub use faulty::{Faults, FaultyStore};
pub use file::FileStore;
pub use memory::MemoryStore;

/// A boxed future, so that the trait is object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keeps records, shard by shard.
pub trait Store: Send + Sync + 'static {
    /// Identity of the kept records: 128 bits, made when the store first starts.
    fn store_id(&self) -> [u8; 16];

    /// Its name in `--store`, for logs and `GetServerInfo`.
    fn name(&self) -> &'static str;

    /// What it promises, in a few words.
    fn durability(&self) -> &'static str;

    /// How much fits into one commit.
    fn limits(&self) -> CommitLimits;

    /// Whether records outlive this process, so that a server that ends cleanly keeps all that is held and waited for.
    fn outlives_the_process(&self) -> bool;

    /// There is no space for new tickets: they are refused, while what is there can be renewed and unlocked.
    fn is_full(&self) -> bool {
        false
    }

    /// Makes the caller the only writer of a shard: raises the epoch, then reads. Whoever had it before is fenced from
    /// that moment, also this same server, so that a commit of unknown outcome never lands later.
    fn take(&self, shard: u32) -> BoxFuture<'_, Result<Taken, StoreError>>;

    /// Writes all of the changes or none, in their order, for whoever took the shard with this epoch. The caller has
    /// at most one commit per shard in flight. A `Pending` future goes on being polled until it answers, by the thread that
    /// wakes it: that one then works for the shard, and may hand over its next commit, so it must hold no lock of the store.
    fn commit(&self, shard: u32, epoch: u64, changes: Vec<Change>) -> Commit;

    /// A copy of all shards as of one point, as a file that `ticketlock restore` reads. It has no name, and is gone when
    /// it is closed.
    fn backup(&self) -> BoxFuture<'_, Result<File, StoreError>> {
        let text = format!("the {} store has no backup", self.name());
        Box::pin(std::future::ready(Err(StoreError::Unavailable(text))))
    }

    /// The caller no longer writes this shard; another one may take it without waiting.
    fn give_back(&self, shard: u32, epoch: u64) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What [`Store::take`] gives.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The epoch to commit with; greater than every earlier one of this shard.
    pub epoch: u64,
    /// All that is kept.
    pub records: Records,
}

/// The answer to a commit.
pub enum Commit {
    /// Answered at once: no task hop is needed.
    Done(Result<(), StoreError>),
    /// Answered later.
    Pending(BoxFuture<'static, Result<(), StoreError>>),
}

/// How much fits into one commit. One command's changes are never split, so both leave room for one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitLimits {
    /// Changes.
    pub changes_max: usize,
    /// Bytes, as [`change_bytes`] counts them.
    pub bytes_max: usize,
}

impl CommitLimits {
    /// As much as is there.
    pub const UNLIMITED: Self = Self {
        changes_max: usize::MAX,
        bytes_max: usize::MAX,
    };
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another one took the shard: nothing was written, and nothing with this epoch ever will be.
    #[error("fenced: the shard was taken by another one")]
    Fenced,
    /// The store cannot be reached or refuses: nothing was written.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Nobody knows whether it was written, until the shard is taken again.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// What is kept cannot be read.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

/// About how many bytes a change takes in a store; not less than any store needs.
#[must_use]
pub fn change_bytes(change: &Change) -> usize {
    /// Numbers, lengths and framing of one record.
    const FRAME: usize = 128;
    /// The same for one claim.
    const CLAIM: usize = 64;
    let text = match change {
        Change::Mark(_) | Change::DeleteTicket(_) | Change::DeleteEnd(_) => 0,
        Change::PutTicket(ticket) => {
            let terms = &ticket.terms;
            let metadata: usize = terms
                .metadata
                .iter()
                .map(|(name, value)| name.len() + value.len() + 16)
                .sum();
            let note = ticket.hold.as_ref().map_or(0, |hold| hold.previous_outcome.note.len());
            terms.key.len() + terms.owner.len() + metadata + note + ticket.claims.len() * CLAIM
        }
        Change::PutEnd(end) => end.key.len() + end.owner.len() + FRAME * 8,
        Change::PutOutcome(outcome) => outcome.key.len() + outcome.outcome.note.len(),
        Change::DeleteOutcome(key) => key.len(),
    };
    FRAME + text
}

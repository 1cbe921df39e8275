//! The file store: what was acknowledged is there after a restart, and a file that lost some of it is refused.

#![expect(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::Arc;

use ticketlock::store::file::OpenError;
use ticketlock::store::{Commit, FileStore, Store, StoreError};
use ticketlock_core::record::{Change, ClaimRecord, End, EndRecord, HoldRecord, OutcomeRecord, Records, TicketRecord};
use ticketlock_core::sharding::ShardCount;
use ticketlock_core::types::{LostReason, Number, Outcome, OutcomeStatus, RequestId, Terms};

const SHARDS: u32 = 4;

fn shards(count: u32) -> ShardCount {
    ShardCount::new(count).expect("a power of two")
}

fn open(dir: &Path) -> Result<FileStore, OpenError> {
    FileStore::open(dir, [1; 16], shards(SHARDS), 1_000)
}

async fn commit(store: &FileStore, shard: u32, epoch: u64, changes: Vec<Change>) -> Result<(), StoreError> {
    match store.commit(shard, epoch, changes) {
        Commit::Done(result) => result,
        Commit::Pending(pending) => pending.await,
    }
}

async fn take(store: &FileStore, shard: u32) -> (u64, Records) {
    let taken = store.take(shard).await.expect("the shard is there");
    (taken.epoch, taken.records)
}

fn ticket(number: Number) -> TicketRecord {
    let terms = Arc::new(Terms {
        request_id: Some(RequestId([7; 16])),
        ..Terms::exclusive(format!("key/{number}"), "me")
    });
    let ttl = std::time::Duration::from_secs(30);
    TicketRecord {
        ticket: number,
        order: number,
        terms: Arc::clone(&terms),
        ttl,
        claims: std::iter::once(ClaimRecord {
            terms,
            attach_number: 1,
            ttl,
        })
        .collect(),
        hold: number.is_multiple_of(2).then(|| {
            Box::new(HoldRecord {
                token: number,
                unacked: false,
                longest: std::time::Duration::ZERO,
                previous_outcome: Outcome::default(),
            })
        }),
    }
}

/// Fifty records over all shards, in several commits.
async fn fill(store: &FileStore) {
    for shard in 0..SHARDS {
        let (epoch, records) = take(store, shard).await;
        let base = records.mark;
        for first in (0..12).step_by(4) {
            let mut changes = vec![Change::Mark(base + 100)];
            changes.extend((first..first + 4).map(|nth| Change::PutTicket(Box::new(ticket(base + nth)))));
            assert_eq!(commit(store, shard, epoch, changes).await, Ok(()));
        }
    }
    let (epoch, records) = take(store, 0).await;
    let number = records.mark;
    let end = EndRecord {
        number,
        key: "key".into(),
        owner: "me".into(),
        request_id: None,
        token: Some(5),
        end: End::Lost(LostReason::Expired),
    };
    let pending = OutcomeRecord {
        key: "key".into(),
        outcome: Outcome {
            status: OutcomeStatus::Failure,
            note: "half".to_owned(),
        },
        up_to: number,
    };
    let changes = vec![Change::PutEnd(end), Change::PutOutcome(pending)];
    assert_eq!(commit(store, 0, epoch, changes).await, Ok(()));
}

/// All that a store holds, shard by shard.
async fn all(store: &FileStore) -> Vec<String> {
    let mut said = Vec::new();
    for shard in 0..SHARDS {
        said.push(format!("{:?}", take(store, shard).await.1));
    }
    said
}

/// Goal: records, marks, identity and epochs come back after a restart.
#[tokio::test]
async fn a_restart_brings_everything_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("new");
    fill(&store).await;
    let (before, about) = (all(&store).await, store.about());
    let (epoch, _) = take(&store, 3).await;
    drop(store);
    let store = FileStore::open(dir.path(), [9; 16], shards(SHARDS), 5_000).expect("it is intact");
    assert_eq!(store.about().store_id, about.store_id, "its identity is its own");
    assert_eq!(all(&store).await, before);
    let (later, _) = take(&store, 3).await;
    assert!(later > epoch, "{later} after {epoch}");
}

/// Goal: one directory has one server; a second one is told who has it, and which shard count it was made for.
#[tokio::test]
async fn a_directory_in_use_and_another_shard_count_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("new");
    let refused = open(dir.path()).err().expect("in use").to_string();
    let by = format!("in use by process {}", std::process::id());
    assert!(refused.contains(&by), "{refused}");
    drop(store);
    let refused = FileStore::open(dir.path(), [1; 16], shards(8), 1_000).err();
    let refused = refused.expect("another count").to_string();
    assert!(
        refused.contains("made for 4 shards, not 8") && refused.contains("--shards 4"),
        "{refused}"
    );
    open(dir.path()).expect("nothing was changed");
}

/// Goal: a data file that is older than what was acknowledged, or gone, is refused with what to do.
#[tokio::test]
async fn a_data_file_that_fell_back_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, old) = (dir.path().join("locks.redb"), dir.path().join("old"));
    drop(open(dir.path()).expect("new"));
    fs::copy(&data, &old).expect("copied");
    let store = open(dir.path()).expect("intact");
    fill(&store).await;
    drop(store);
    fs::copy(&old, &data).expect("copied");
    let refused = open(dir.path()).err().expect("it fell back").to_string();
    assert!(
        refused.contains("was acknowledged") && refused.contains("ticketlock restore"),
        "{refused}"
    );
    fs::remove_file(&data).expect("removed");
    let refused = open(dir.path()).err().expect("it is gone").to_string();
    assert!(refused.contains("locks.redb is missing"), "{refused}");
}

/// One damaged copy of a directory: either all of `expected` is there, or it is refused as damaged.
async fn check(dir: &Path, what: &str, expected: &[String]) -> bool {
    match open(dir) {
        Ok(store) => {
            assert_eq!(all(&store).await, expected, "{what}: something is missing, in silence");
            true
        }
        Err(OpenError::Damaged { .. }) => false,
        Err(other) => panic!("{what}: {other}"),
    }
}

/// Goal: no damage is taken for a crash. Every byte of the header, every used page at 16 offsets, every cut at a page's
/// boundary and one byte beside it: all that was acknowledged is there, or the file is refused. The same for a file
/// that was closed and for one whose server was killed.
#[tokio::test]
async fn damage_is_seen_or_harmless() {
    const PAGE: usize = 4096;
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("new");
    fill(&store).await;
    let expected = all(&store).await;
    let copy = |name: &str| fs::read(dir.path().join(name)).expect("read");
    let killed = (copy("locks.redb"), copy("progress"));
    drop(store);
    let closed = (copy("locks.redb"), copy("progress"));
    // What redb says of a damaged page as it panics is caught, and not for this output.
    panic::set_hook(Box::new(|_| {}));
    let (mut fine, mut refused) = (0, 0);
    for (state, (data, progress)) in [("killed", killed), ("closed", closed)] {
        let mut damages: Vec<(String, Vec<u8>)> = Vec::new();
        let header = 0..PAGE.min(data.len());
        let pages = (PAGE..data.len()).step_by(PAGE / 16);
        for at in header.chain(pages) {
            let mut bytes = data.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0xff;
            }
            damages.push((format!("{state}: byte {at}"), bytes));
        }
        for cut in (0..=data.len())
            .step_by(PAGE)
            .flat_map(|at| [at.saturating_sub(1), at, at + 1])
        {
            if let Some(bytes) = data.get(..cut) {
                damages.push((format!("{state}: cut at {cut}"), bytes.to_vec()));
            }
        }
        for (what, bytes) in damages {
            let damaged = tempfile::tempdir().expect("a directory");
            fs::write(damaged.path().join("locks.redb"), bytes).expect("written");
            fs::write(damaged.path().join("progress"), &progress).expect("written");
            if check(damaged.path(), &what, &expected).await {
                fine += 1;
            } else {
                refused += 1;
            }
        }
    }
    drop(panic::take_hook());
    eprintln!("{fine} harmless, {refused} refused");
    assert!(fine > 0 && refused > 0);
}

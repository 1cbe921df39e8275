//! What every store must do, as one suite: [`check_store`] runs it on a store, and the tests at the end on each.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use ticketlock::store::{Commit, Faults, FaultyStore, FileStore, MemoryStore, Store, StoreError};
use ticketlock_core::record::{Change, ClaimRecord, End, EndRecord, HoldRecord, OutcomeRecord, Records, TicketRecord};
use ticketlock_core::sharding::ShardCount;
use ticketlock_core::types::{
    Mode, Number, OnDisconnect, Outcome, OutcomeStatus, RefusedReason, RequestId, SameOwner, Terms,
};

/// The whole suite. `make` gives a new, empty store of four shards.
pub async fn check_store<S: Store>(make: impl Fn() -> S) {
    a_new_store_is_empty(&make()).await;
    epochs_grow(&make()).await;
    commits_come_back(&make()).await;
    deletes_delete(&make()).await;
    marks_never_fall(&make()).await;
    the_earlier_writer_is_fenced(&make()).await;
    shards_are_apart(&make()).await;
    changes_keep_their_order(&make()).await;
    given_back_is_taken_again(&make()).await;
    one_commands_changes_fit(&make());
}

/// Commits and waits for the answer.
async fn commit(store: &impl Store, shard: u32, epoch: u64, changes: Vec<Change>) -> Result<(), StoreError> {
    match store.commit(shard, epoch, changes) {
        Commit::Done(result) => result,
        Commit::Pending(pending) => pending.await,
    }
}

/// Takes a shard that must be there.
async fn take(store: &impl Store, shard: u32) -> (u64, Records) {
    let taken = store.take(shard).await.expect("the shard is there");
    (taken.epoch, taken.records)
}

/// A ticket with every field in use.
fn ticket(number: Number, owner: &str) -> TicketRecord {
    let terms = Terms {
        key: "a/key".into(),
        owner: owner.into(),
        request_id: Some(RequestId([7; 16])),
        on_disconnect: OnDisconnect::Grace(Duration::from_secs(5)),
        same_owner: SameOwner::Reenter,
        mode: Mode::Permits {
            permits: 2,
            capacity: 5,
        },
        wait_timeout: Some(Duration::from_secs(60)),
        lock_delay: Duration::from_secs(1),
        max_hold: Some(Duration::from_secs(600)),
        metadata: Box::new([("job".to_owned(), "42".to_owned())]),
    };
    let again = Terms {
        request_id: Some(RequestId([8; 16])),
        ..terms.clone()
    };
    let (terms, again) = (Arc::new(terms), Arc::new(again));
    let claim = |terms: &Arc<Terms>, seconds| ClaimRecord {
        terms: Arc::clone(terms),
        attach_number: seconds / 3,
        ttl: Duration::from_secs(seconds),
    };
    TicketRecord {
        ticket: number,
        order: number + 1,
        terms: Arc::clone(&terms),
        ttl: Duration::from_millis(1500),
        claims: [claim(&terms, 9), claim(&again, 3)].into_iter().collect(),
        hold: Some(Box::new(HoldRecord {
            token: number + 2,
            unacked: true,
            longest: Duration::from_secs(number),
            previous_outcome: outcome("fine"),
        })),
    }
}

/// Such a ticket, to be kept.
fn put(number: Number, owner: &str) -> Change {
    Change::PutTicket(Box::new(ticket(number, owner)))
}

/// A remembered end.
fn end(number: Number) -> EndRecord {
    EndRecord {
        number,
        key: "a/key".into(),
        owner: "me".into(),
        request_id: Some(RequestId([9; 16])),
        token: Some(4),
        end: End::Refused(RefusedReason::WaitTimeout),
    }
}

/// An outcome with a note.
fn outcome(note: &str) -> Outcome {
    Outcome {
        status: OutcomeStatus::Success,
        note: note.to_owned(),
    }
}

/// A pending outcome.
fn pending(key: &str, note: &str) -> OutcomeRecord {
    OutcomeRecord {
        key: key.into(),
        outcome: outcome(note),
        up_to: 8,
    }
}

/// Nothing is kept, and the counter stands where it begins.
async fn a_new_store_is_empty(store: &impl Store) {
    let (_, records) = take(store, 0).await;
    assert!(records.tickets.is_empty() && records.ends.is_empty() && records.outcomes.is_empty());
    assert!(records.mark >= records.base);
}

/// Each take has a greater epoch than the one before.
async fn epochs_grow(store: &impl Store) {
    let (first, _) = take(store, 1).await;
    let (second, _) = take(store, 1).await;
    assert!(second > first, "{second} after {first}");
}

/// What was committed is read back, field by field.
async fn commits_come_back(store: &impl Store) {
    let (epoch, records) = take(store, 0).await;
    let mark = records.mark + 100;
    let changes = vec![
        Change::Mark(mark),
        put(11, "me"),
        Change::PutEnd(end(12)),
        Change::PutOutcome(pending("a/key", "done")),
    ];
    assert_eq!(commit(store, 0, epoch, changes).await, Ok(()));
    let (_, records) = take(store, 0).await;
    assert_eq!(records.mark, mark);
    assert_eq!(records.tickets, [ticket(11, "me")]);
    assert_eq!(records.ends, [end(12)]);
    assert_eq!(records.outcomes, [pending("a/key", "done")]);
}

/// Deletes remove what they name and nothing else; deleting what is not there is no error.
async fn deletes_delete(store: &impl Store) {
    let (epoch, _) = take(store, 0).await;
    let puts = vec![
        put(11, "me"),
        put(21, "you"),
        Change::PutEnd(end(12)),
        Change::PutEnd(end(22)),
        Change::PutOutcome(pending("a", "1")),
        Change::PutOutcome(pending("b", "2")),
    ];
    assert_eq!(commit(store, 0, epoch, puts).await, Ok(()));
    let deletes = vec![
        Change::DeleteTicket(11),
        Change::DeleteEnd(12),
        Change::DeleteOutcome("a".into()),
        Change::DeleteTicket(999),
        Change::DeleteEnd(999),
        Change::DeleteOutcome("none".into()),
    ];
    assert_eq!(commit(store, 0, epoch, deletes).await, Ok(()));
    let (_, records) = take(store, 0).await;
    assert_eq!(records.tickets, [ticket(21, "you")]);
    assert_eq!(records.ends, [end(22)]);
    assert_eq!(records.outcomes, [pending("b", "2")]);
}

/// The mark is the highest that was ever committed.
async fn marks_never_fall(store: &impl Store) {
    let (epoch, records) = take(store, 0).await;
    let high = records.mark + 50;
    assert_eq!(commit(store, 0, epoch, vec![Change::Mark(high)]).await, Ok(()));
    assert_eq!(commit(store, 0, epoch, vec![Change::Mark(high - 20)]).await, Ok(()));
    assert_eq!(take(store, 0).await.1.mark, high);
}

/// After a take, a commit with an earlier epoch writes nothing and says so.
async fn the_earlier_writer_is_fenced(store: &impl Store) {
    let (earlier, _) = take(store, 2).await;
    let (later, _) = take(store, 2).await;
    let late = commit(store, 2, earlier, vec![put(11, "late")]).await;
    assert_eq!(late, Err(StoreError::Fenced));
    assert_eq!(commit(store, 2, later, vec![put(21, "now")]).await, Ok(()));
    assert_eq!(take(store, 2).await.1.tickets, [ticket(21, "now")]);
}

/// Shards have their own records and epochs.
async fn shards_are_apart(store: &impl Store) {
    let (one, _) = take(store, 0).await;
    let (two, _) = take(store, 3).await;
    assert_eq!(commit(store, 0, one, vec![put(11, "zero")]).await, Ok(()));
    assert_eq!(commit(store, 3, two, vec![put(11, "three")]).await, Ok(()));
    assert_eq!(take(store, 0).await.1.tickets, [ticket(11, "zero")]);
    assert_eq!(take(store, 3).await.1.tickets, [ticket(11, "three")]);
}

/// Within a commit the later change wins.
async fn changes_keep_their_order(store: &impl Store) {
    let (epoch, _) = take(store, 0).await;
    let changes = vec![
        put(11, "first"),
        Change::DeleteTicket(11),
        put(11, "second"),
        put(11, "third"),
        put(12, "gone"),
        Change::DeleteTicket(12),
    ];
    assert_eq!(commit(store, 0, epoch, changes).await, Ok(()));
    assert_eq!(take(store, 0).await.1.tickets, [ticket(11, "third")]);
}

/// A shard that was given back can be taken, with what it kept.
async fn given_back_is_taken_again(store: &impl Store) {
    let (epoch, _) = take(store, 0).await;
    assert_eq!(commit(store, 0, epoch, vec![put(11, "me")]).await, Ok(()));
    assert_eq!(store.give_back(0, epoch).await, Ok(()));
    let (later, records) = take(store, 0).await;
    assert!(later > epoch);
    assert_eq!(records.tickets, [ticket(11, "me")]);
}

/// The limits leave room for what one command can change: a handful of records for each of a step's 256 grants.
fn one_commands_changes_fit(store: &impl Store) {
    let limits = store.limits();
    assert!(limits.changes_max >= 1024, "{limits:?}");
    assert!(limits.bytes_max >= 1024 * 1024, "{limits:?}");
}

/// Four shards.
fn memory() -> MemoryStore {
    MemoryStore::new([1; 16], ShardCount::new(4).expect("a power of two"), 1_000)
}

/// The memory store keeps the contract.
#[tokio::test]
async fn memory_keeps_the_contract() {
    check_store(memory).await;
}

/// The file store keeps the contract.
#[tokio::test]
async fn file_keeps_the_contract() {
    let dirs = RefCell::new(Vec::new());
    let open = || {
        let dir = tempfile::tempdir().expect("a directory");
        let shards = ShardCount::new(4).expect("a power of two");
        let store = FileStore::open(dir.path(), [1; 16], shards, 1_000).expect("opened");
        dirs.borrow_mut().push(dir);
        store
    };
    check_store(open).await;
}

/// The faulty store without a fault is the store within.
#[tokio::test]
async fn faulty_without_faults_keeps_the_contract() {
    check_store(|| FaultyStore::new(memory(), Faults::default())).await;
}

/// The same when every commit answers through a future.
#[tokio::test]
async fn faulty_with_late_answers_keeps_the_contract() {
    let faults = Faults::default();
    faults.defer();
    check_store(|| FaultyStore::new(memory(), faults.clone())).await;
}

/// The counter begins at unix seconds x 2^20, so that a later process gives greater numbers.
#[tokio::test]
async fn memory_counts_from_the_wall_clock() {
    let (_, records) = take(&memory(), 0).await;
    assert_eq!(records.base, 1_000 << 20);
    assert_eq!(records.mark, records.base);
}

/// A shard that does not exist is no shard.
#[tokio::test]
async fn memory_knows_its_shards() {
    let store: Arc<dyn Store> = Arc::new(memory());
    assert!(matches!(store.take(4).await, Err(StoreError::Unavailable(_))));
}

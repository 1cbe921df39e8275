//! A store that fails on demand, for tests: it wraps another one, and a test holds its [`Faults`].
//!
//! It can hold commits back until they are released (those of different shards in any order), fail the next commits in
//! each way the trait knows, with or without having written, and fail the next takes. Without a fault it answers as
//! the store within does.

use std::collections::VecDeque;
use std::sync::Arc;

use ticketlock_core::record::Change;

use super::{BoxFuture, Commit, CommitLimits, Store, StoreError, Taken};
use crate::sync::{Mutex, Notify, oneshot};

/// Wraps a store and fails as its [`Faults`] say.
pub struct FaultyStore<S> {
    /// Does the work.
    within: Arc<S>,
    /// Shared with the test.
    faults: Faults,
}

/// How one commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing written, and the store says so.
    Unavailable,
    /// Written, and the store cannot say so.
    UnknownApplied,
    /// Not written, and the store cannot say so.
    UnknownNotApplied,
    /// Another one took the shard.
    Fenced,
}

/// The handle by which a test makes a [`FaultyStore`] fail; clones share it.
#[derive(Clone, Default)]
pub struct Faults {
    /// What is planned and what is held back.
    script: Arc<Mutex<Script>>,
    /// Rings when a commit or a take has come.
    news: Arc<Notify>,
}

/// What is planned and what is held back.
#[derive(Default)]
struct Script {
    /// Shards whose commits are held back.
    holding: Vec<u32>,
    /// All shards' commits are held back.
    holding_all: bool,
    /// Commits that wait for their release, in order of arrival.
    held: VecDeque<(u32, oneshot::Sender<Option<Fault>>)>,
    /// The next commits fail like this.
    commits: VecDeque<Fault>,
    /// The next takes fail like this.
    takes: VecDeque<StoreError>,
    /// Commits answer through a future even where nothing holds them back.
    deferring: bool,
    /// Commits that have come so far.
    commits_seen: u64,
    /// Takes that have come so far.
    takes_seen: u64,
}

impl<S: Store> FaultyStore<S> {
    /// Wraps `within`.
    #[must_use]
    pub fn new(within: S, faults: Faults) -> Self {
        Self {
            within: Arc::new(within),
            faults,
        }
    }
}

impl Faults {
    /// From now on, commits of `shard` wait until they are released.
    pub fn hold(&self, shard: u32) {
        self.script.lock().holding.push(shard);
    }

    /// From now on, all commits wait until they are released.
    pub fn hold_all(&self) {
        self.script.lock().holding_all = true;
    }

    /// From now on, nothing is held back, and what was is released in its order.
    pub fn release_all(&self) {
        let mut script = self.script.lock();
        script.holding.clear();
        script.holding_all = false;
        let held = std::mem::take(&mut script.held);
        drop(script);
        for (_, gate) in held {
            // A gate whose commit was dropped has nobody to tell.
            let _ = gate.send(None);
        }
    }

    /// Lets the oldest held commit of `shard` go on, with a fault or without. False: there is none.
    pub fn release_one(&self, shard: u32, fault: Option<Fault>) -> bool {
        let mut script = self.script.lock();
        let found = script.held.iter().position(|(held, _)| *held == shard);
        let gate = found.and_then(|index| script.held.remove(index));
        drop(script);
        gate.is_some_and(|(_, gate)| gate.send(fault).is_ok())
    }

    /// Shards with a commit that is held back, in order of arrival.
    #[must_use]
    pub fn held(&self) -> Vec<u32> {
        self.script.lock().held.iter().map(|(shard, _)| *shard).collect()
    }

    /// Waits until a commit of `shard` is held back.
    pub async fn until_held(&self, shard: u32) {
        self.until(|script| script.held.iter().any(|(held, _)| *held == shard))
            .await;
    }

    /// The next `count` commits fail like this.
    pub fn fail_commits(&self, count: usize, fault: Fault) {
        self.script.lock().commits.extend(std::iter::repeat_n(fault, count));
    }

    /// The next `count` takes fail like this.
    pub fn fail_takes(&self, count: usize, error: &StoreError) {
        self.script
            .lock()
            .takes
            .extend(std::iter::repeat_n(error.clone(), count));
    }

    /// Commits answer through a future from now on, even where nothing holds them back.
    pub fn defer(&self) {
        self.script.lock().deferring = true;
    }

    /// Commits that have come so far.
    #[must_use]
    pub fn commits_seen(&self) -> u64 {
        self.script.lock().commits_seen
    }

    /// Takes that have come so far.
    #[must_use]
    pub fn takes_seen(&self) -> u64 {
        self.script.lock().takes_seen
    }

    /// Waits until so many takes have come.
    pub async fn until_takes(&self, count: u64) {
        self.until(|script| script.takes_seen >= count).await;
    }

    /// Waits until the script looks like this.
    async fn until(&self, there: impl Fn(&Script) -> bool) {
        loop {
            // Order: listen before looking, so that news in between is not missed.
            let news = self.news.notified();
            if there(&self.script.lock()) {
                return;
            }
            news.await;
        }
    }

    /// What becomes of a commit that has just come: a gate to wait at, or a fault (or none) at once.
    fn admit(&self, shard: u32) -> Admission {
        let mut script = self.script.lock();
        script.commits_seen += 1;
        let fault = script.commits.pop_front();
        let holds = script.holding_all || script.holding.contains(&shard);
        let admission = if fault.is_none() && holds {
            let (gate, opened) = oneshot::channel();
            script.held.push_back((shard, gate));
            Admission::Held(opened)
        } else if script.deferring {
            Admission::Deferred(fault)
        } else {
            Admission::AtOnce(fault)
        };
        drop(script);
        self.news.notify_waiters();
        admission
    }
}

/// What becomes of a commit.
enum Admission {
    /// It goes on now.
    AtOnce(Option<Fault>),
    /// It goes on in its future.
    Deferred(Option<Fault>),
    /// It goes on when a test says so.
    Held(oneshot::Receiver<Option<Fault>>),
}

impl<S: Store> Store for FaultyStore<S> {
    fn store_id(&self) -> [u8; 16] {
        self.within.store_id()
    }

    fn name(&self) -> &'static str {
        "faulty"
    }

    fn durability(&self) -> &'static str {
        self.within.durability()
    }

    fn outlives_the_process(&self) -> bool {
        self.within.outlives_the_process()
    }

    fn limits(&self) -> CommitLimits {
        self.within.limits()
    }

    fn take(&self, shard: u32) -> BoxFuture<'_, Result<Taken, StoreError>> {
        let fault = {
            let mut script = self.faults.script.lock();
            script.takes_seen += 1;
            script.takes.pop_front()
        };
        self.faults.news.notify_waiters();
        match fault {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.within.take(shard),
        }
    }

    fn commit(&self, shard: u32, epoch: u64, changes: Vec<Change>) -> Commit {
        let within = Arc::clone(&self.within);
        match self.faults.admit(shard) {
            Admission::AtOnce(fault) => commit_with(&*within, fault, shard, epoch, changes),
            Admission::Deferred(fault) => Commit::Pending(Box::pin(commit_later(within, fault, shard, epoch, changes))),
            Admission::Held(opened) => Commit::Pending(Box::pin(async move {
                // A test that is over lets the commit go.
                let fault = opened.await.unwrap_or(None);
                commit_later(within, fault, shard, epoch, changes).await
            })),
        }
    }

    fn give_back(&self, shard: u32, epoch: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.within.give_back(shard, epoch)
    }
}

/// The commit within, spoilt by the fault if there is one.
fn commit_with<S: Store>(within: &S, fault: Option<Fault>, shard: u32, epoch: u64, changes: Vec<Change>) -> Commit {
    match fault {
        None => within.commit(shard, epoch, changes),
        Some(Fault::UnknownApplied) => match within.commit(shard, epoch, changes) {
            Commit::Done(_) => Commit::Done(Err(error_of(Fault::UnknownApplied))),
            Commit::Pending(pending) => Commit::Pending(Box::pin(async move {
                // The answer is what the fault hides.
                let _ = pending.await;
                Err(error_of(Fault::UnknownApplied))
            })),
        },
        Some(fault) => Commit::Done(Err(error_of(fault))),
    }
}

/// The same, awaited.
async fn commit_later<S: Store>(
    within: Arc<S>,
    fault: Option<Fault>,
    shard: u32,
    epoch: u64,
    changes: Vec<Change>,
) -> Result<(), StoreError> {
    match commit_with(&*within, fault, shard, epoch, changes) {
        Commit::Done(result) => result,
        Commit::Pending(pending) => pending.await,
    }
}

/// What the caller is told.
fn error_of(fault: Fault) -> StoreError {
    match fault {
        Fault::Unavailable => StoreError::Unavailable("a planted fault".into()),
        Fault::UnknownApplied | Fault::UnknownNotApplied => StoreError::Unknown("a planted fault".into()),
        Fault::Fenced => StoreError::Fenced,
    }
}

//! The one thread that writes: it takes all that waits, for all shards, makes one commit of it, and answers.
//!
//! Order: within a shard, changes and takes are carried out as they came. A commit is answered after it was synced.
//!
//! A failed write or sync is never retried: the store has failed, nothing is acknowledged any more, and the process is
//! to end. Only a full disk is different: see [`Committer::make_room`].

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::record::Change;

use super::database::{Batch, Data, Failure, Snapshot};
use super::disk::Disk;
use super::{DATA, progress};
use crate::store::{StoreError, Taken};
use crate::sync::{AtomicBool, Condvar, Mutex, Notify, Ordering, oneshot, watch};

/// How often a full disk is looked at for space.
const LOOK_FOR_SPACE: Duration = Duration::from_millis(500);

/// What is asked of the committer.
pub(super) enum Job {
    /// A shard's changes under an epoch.
    Commit {
        shard: u32,
        epoch: u64,
        changes: Vec<Change>,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    /// What there is now, for a copy.
    Snapshot(oneshot::Sender<Result<Snapshot, StoreError>>),
    /// A shard is taken.
    Take {
        shard: u32,
        answer: oneshot::Sender<Result<Taken, StoreError>>,
    },
}

/// What the store and its committer share.
pub(super) struct Desk {
    inner: Mutex<Inner>,
    /// Ring when there is a job, or nothing more will come: for a thread, and for a task of a simulation.
    bell: Condvar,
    task_bell: Notify,
    /// Why the store has failed, once it has.
    pub(super) failure: watch::Sender<Option<String>>,
    /// The disk is full.
    pub(super) full: AtomicBool,
}

#[derive(Default)]
struct Inner {
    jobs: Vec<Job>,
    closed: bool,
}

impl Desk {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner::default()),
            bell: Condvar::new(),
            task_bell: Notify::new(),
            failure: watch::channel(None).0,
            full: AtomicBool::new(false),
        })
    }

    /// Asks for something; after a failure or the end it is dropped unanswered.
    pub(super) fn put(&self, job: Job) {
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        inner.jobs.push(job);
        // It looks for itself unless it waits.
        if inner.jobs.len() == 1 {
            self.ring();
        }
    }

    fn ring(&self) {
        self.bell.notify_one();
        self.task_bell.notify_one();
    }

    /// Nothing more will be asked.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.ring();
    }

    /// Nothing more will be done: what was asked meanwhile is dropped unanswered.
    fn fail(&self, text: String) {
        let jobs = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            std::mem::take(&mut inner.jobs)
        };
        self.failure.send_replace(Some(text));
        drop(jobs);
    }

    /// The same in a task.
    async fn take_in_task(&self, at_most: Option<Duration>) -> Option<Vec<Job>> {
        loop {
            {
                let mut inner = self.inner.lock();
                if !inner.jobs.is_empty() {
                    return Some(std::mem::take(&mut inner.jobs));
                }
                if inner.closed {
                    return None;
                }
            }
            match at_most {
                Some(at_most) => {
                    if tokio::time::timeout(at_most, self.task_bell.notified()).await.is_err() {
                        return Some(Vec::new());
                    }
                }
                None => self.task_bell.notified().await,
            }
        }
    }

    /// All that waits, or `None` at the end. Waits at most this long.
    fn take(&self, at_most: Option<Duration>) -> Option<Vec<Job>> {
        let mut inner = self.inner.lock();
        while inner.jobs.is_empty() {
            if inner.closed {
                return None;
            }
            match at_most {
                Some(at_most) => {
                    if self.bell.wait_for(&mut inner, at_most).timed_out() {
                        break;
                    }
                }
                None => self.bell.wait(&mut inner),
            }
        }
        Some(std::mem::take(&mut inner.jobs))
    }
}

/// Writes.
pub(super) struct Committer {
    pub(super) desk: Arc<Desk>,
    pub(super) disk: Arc<dyn Disk>,
    /// `None` while it is opened anew.
    pub(super) data: Option<Data>,
    /// By shard: who may write.
    pub(super) epochs: Vec<u64>,
}

/// What is told once a commit is done.
enum Answer {
    Commit(oneshot::Sender<Result<(), StoreError>>),
    Take(u32, oneshot::Sender<Result<Taken, StoreError>>),
}

impl Answer {
    fn fail(self, error: StoreError) {
        // Nobody listens where a shard was closed meanwhile.
        match self {
            Self::Commit(answer) => drop(answer.send(Err(error))),
            Self::Take(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

impl Committer {
    /// Works until the store is dropped or has failed.
    pub(super) fn run(mut self) {
        while let Some(jobs) = self.desk.take(self.looks_for_space())
            && self.turn(jobs)
        {}
    }

    /// The same in a task: each commit after a pause, as long as a disk takes for one.
    pub(super) async fn run_in_task(mut self, pause: impl Fn() -> Duration) {
        while let Some(mut jobs) = self.desk.take_in_task(self.looks_for_space()).await {
            tokio::time::sleep(pause()).await;
            // What came meanwhile goes along.
            jobs.append(&mut self.desk.inner.lock().jobs);
            if !self.turn(jobs) {
                return;
            }
        }
    }

    fn looks_for_space(&self) -> Option<Duration> {
        self.desk.full.load(Ordering::SeqCst).then_some(LOOK_FOR_SPACE)
    }

    /// One commit for all that was asked. False: the store has failed.
    fn turn(&mut self, jobs: Vec<Job>) -> bool {
        if self.desk.full.load(Ordering::SeqCst) && self.disk.reserve().is_ok() {
            tracing::info!("there is space on the disk again: tickets are taken");
            self.desk.full.store(false, Ordering::SeqCst);
        }
        if jobs.is_empty() {
            return true;
        }
        let Err(failure) = self.work(jobs) else { return true };
        self.desk.fail(format!(
            "the data file failed: {failure}; nothing is acknowledged any more"
        ));
        false
    }

    /// One commit for all. `Err`: the store has failed.
    fn work(&mut self, jobs: Vec<Job>) -> Result<(), Failure> {
        let Some(data) = &mut self.data else {
            return Err(Failure::Damaged("it is not open".to_owned()));
        };
        let mut batch = Batch::default();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Commit {
                    shard,
                    epoch,
                    changes,
                    answer,
                } => {
                    if epoch != epoch_of(&mut self.epochs, shard) {
                        Answer::Commit(answer).fail(StoreError::Fenced);
                        continue;
                    }
                    batch.add(shard, changes);
                    answers.push(Answer::Commit(answer));
                }
                // Order: commits that came before it and were not answered yet may be in it or not.
                Job::Snapshot(answer) => {
                    let unavailable = |failure: Failure| StoreError::Unavailable(failure.to_string());
                    let _ = answer.send(data.snapshot().map_err(unavailable));
                }
                Job::Take { shard, answer } => {
                    let epoch = epoch_of(&mut self.epochs, shard) + 1;
                    batch.epoch(shard, epoch);
                    if let Some(known) = self.epochs.get_mut(usize::try_from(shard).unwrap_or(usize::MAX)) {
                        *known = epoch;
                    }
                    answers.push(Answer::Take(shard, answer));
                }
            }
        }
        if answers.is_empty() {
            return Ok(());
        }
        let committed = data.commit(&batch).and_then(|()| {
            let number = data.about().commits;
            self.disk
                .note(&progress::encode(number))
                .map_err(|error| Failure::Redb(error.into()))
        });
        match committed {
            Ok(()) => {}
            Err(failure) if failure.is_full() => return self.make_room(answers, &failure),
            Err(failure) => {
                let error = || StoreError::Unknown(failure.to_string());
                answers.into_iter().for_each(|answer| answer.fail(error()));
                return Err(failure);
            }
        }
        let reads = answers.into_iter().map(|answer| match answer {
            Answer::Commit(answer) => {
                let _ = answer.send(Ok(()));
                Ok(())
            }
            Answer::Take(shard, answer) => {
                let taken = data.read(shard)?;
                let _ = answer.send(Ok(taken));
                Ok(())
            }
        });
        reads.collect()
    }

    /// The disk is full. redb refuses everything after a failed write until it is opened again; so the ballast is given
    /// up, and the data file is opened again in its place. What was in this commit is answered as unknown: its shards
    /// take anew and see. Unlocks and renewals go on in the ballast's room; new tickets wait until it is filled again.
    fn make_room(&mut self, answers: Vec<Answer>, failure: &Failure) -> Result<(), Failure> {
        if !self.desk.full.swap(true, Ordering::SeqCst) {
            tracing::error!(%failure, "the disk is full: no new tickets are taken until there is space");
        }
        let done = self.data.take().map(|data| data.about().commits);
        self.disk.release().map_err(|error| Failure::Redb(error.into()))?;
        let data = Data::open(&*self.disk, DATA)?;
        if Some(data.about().commits) < done {
            return Err(Failure::Damaged("its last commit is gone".to_owned()));
        }
        for (shard, epoch) in (0..).zip(&mut self.epochs) {
            *epoch = (*epoch).max(data.read(shard)?.epoch);
        }
        self.data = Some(data);
        for answer in answers {
            answer.fail(StoreError::Unknown(failure.to_string()));
        }
        Ok(())
    }
}

fn epoch_of(epochs: &mut [u64], shard: u32) -> u64 {
    let index = usize::try_from(shard).unwrap_or(usize::MAX);
    epochs.get(index).copied().unwrap_or_default()
}

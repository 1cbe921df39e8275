//! What waits for a commit: steps with their replies, gathered into batches that each fit into one commit.

use ticketlock_core::output::{Effect, ToldGrant};
use ticketlock_core::record::Change;
use ticketlock_core::types::{Number, Time};
use ticketlock_core::{Output, Shard};

use super::error::ServiceError;
use crate::store::{CommitLimits, change_bytes};
use crate::sync::oneshot;

/// What is committed together.
#[derive(Default)]
pub(super) struct Batch {
    /// For the store; moved out when the commit begins.
    pub(super) changes: Vec<Change>,
    /// Their size.
    pub(super) bytes: usize,
    /// The highest mark among them.
    pub(super) mark: Number,
    /// How many changes there were.
    pub(super) count: usize,
    /// When the commit began.
    pub(super) began: Time,
    /// What leaves afterwards.
    pub(super) steps: Vec<Held>,
}

/// What a step leaves behind when its changes are committed.
pub(super) struct Held {
    /// For streams and watchers.
    pub(super) effects: Vec<Effect>,
    /// Grants that are told then.
    pub(super) granted: Vec<ToldGrant>,
    /// The reply.
    pub(super) answer: Option<Answer>,
}

/// Gives a held reply, or the error in its place.
pub(super) type Answer = Box<dyn FnOnce(Result<Told, ServiceError>) + Send>;

/// Where in the shard's history a reply is given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// The shard's epoch.
    pub(super) epoch: u64,
    /// Its revision.
    pub(super) revision: u64,
}

/// The answer to a step.
pub(super) enum Outcome<T> {
    /// Given at once.
    Now(Result<T, ServiceError>),
    /// Given after a commit.
    Later(oneshot::Receiver<Result<T, ServiceError>>),
}

impl<T> Outcome<T> {
    /// Waits for it.
    pub(super) async fn answer(self) -> Result<T, ServiceError> {
        match self {
            Self::Now(result) => result,
            // A sender that was dropped unused belongs to a runtime that is going away.
            Self::Later(receiver) => receiver.await.unwrap_or(Err(ServiceError::StoreUnavailable)),
        }
    }
}

impl Batch {
    /// What begins with one step's changes.
    pub(super) fn of(changes: &[Change]) -> Self {
        Self {
            count: changes.len(),
            mark: highest_mark(changes),
            ..Self::default()
        }
    }

    /// Whether a step's changes fit in. Bound: a batch fits into one commit, and a step is never split.
    pub(super) fn fits(&self, changes: &[Change], limits: CommitLimits) -> bool {
        let bytes = self.bytes.saturating_add(changes.iter().map(change_bytes).sum());
        self.changes.len() + changes.len() <= limits.changes_max && bytes <= limits.bytes_max
    }

    /// Puts a step behind the others.
    pub(super) fn append(&mut self, changes: &mut Vec<Change>, step: Held) {
        self.mark = self.mark.max(highest_mark(changes));
        self.bytes = self.bytes.saturating_add(changes.iter().map(change_bytes).sum());
        self.count += changes.len();
        self.changes.append(changes);
        self.steps.push(step);
    }
}

/// Makes a step wait: its effects move from `out`, its reply into a closure.
pub(super) fn hold<T: Send + 'static>(
    shard: &mut Shard,
    out: &mut Output,
    value: T,
    settle: impl FnOnce(&Result<T, ServiceError>, Told) + Send + 'static,
) -> (Held, oneshot::Receiver<Result<T, ServiceError>>) {
    let (sender, receiver) = oneshot::channel();
    let answer: Answer = Box::new(move |result| {
        let told = result.as_ref().copied().unwrap_or_default();
        let result = result.map(|_| value);
        settle(&result, told);
        // Nobody listens where the client has gone; what it started goes on all the same.
        let _ = sender.send(result);
    });
    let effects = std::mem::take(&mut out.effects);
    let granted = std::mem::take(&mut out.granted);
    shard.unsent(&granted);
    (
        Held {
            effects,
            granted,
            answer: Some(answer),
        },
        receiver,
    )
}

/// The highest mark among changes, or 0.
fn highest_mark(changes: &[Change]) -> Number {
    let marks = changes.iter().filter_map(|change| {
        if let Change::Mark(mark) = change {
            Some(*mark)
        } else {
            None
        }
    });
    marks.max().unwrap_or(0)
}

//! What a [`DistributedLock`](super::DistributedLock) knows, and how it changes: pure, the time is an argument.
//!
//! Invariants: `Locked` only while an answered message covers the present; `Unknown` for as long as the server may hold
//! the lock for this client without that; at most one operation; nothing leaves `Closed`.

use std::time::Duration;

/// What a lock object knows of its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LockState {
    /// Not held.
    NotLocked = 0,
    /// Held, guaranteed.
    Locked = 1,
    /// The server may hold it for this client, or not.
    Unknown = 2,
    /// The object is closed.
    Closed = 3,
}

/// What is done over the network, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Lock,
    UpdateLease,
    Unlock,
}

/// Why an operation does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Busy,
    Closed,
    NotHeld,
}

/// What is held, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub token: u64,
    /// Guaranteed until then.
    pub until: Duration,
    /// Certainly over from then on.
    pub over_by: Duration,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Granted or renewed.
    Held(Lease),
    /// The server says that it is not held.
    NotHeld,
    /// Nothing was done.
    Nothing,
    /// It may have been done; if so, it is over by then. A request for the lock has a name.
    Ambiguous {
        over_by: Duration,
        asked: Option<RequestId>,
    },
}

/// Names a request for the lock.
pub(super) type RequestId = [u8; 16];

/// What the server may keep for this object: by token, and by requests that nobody answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub token: Option<u64>,
    pub requests: Vec<RequestId>,
}

/// What the server is to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether this token holds still.
    IsHeld(u64),
    /// To end all of this for good: what asked for its end may be on its way still.
    End(Claims),
}

#[derive(Debug, Default)]
pub(super) struct Machine {
    closed: bool,
    lease: Option<Lease>,
    /// Without a known lease, there may be one until then.
    perhaps_until: Option<Duration>,
    /// An operation ended without an answer, and nothing was answered since. An unlock outweighs the others: it may still
    /// be on its way.
    unanswered: Option<Operation>,
    /// Requests for the lock that were not answered.
    asked: Vec<RequestId>,
    /// The caller gave it back, or is about to.
    given_back: bool,
    /// The operation under way, and its number.
    operation: Option<(u64, Operation)>,
    started: u64,
}

impl Machine {
    /// What is known at this instant.
    pub fn state(&self, now: Duration) -> LockState {
        if self.closed {
            return LockState::Closed;
        }
        let perhaps = self.perhaps_until.is_some_and(|until| now < until);
        match self.lease {
            Some(lease) if now < lease.until => LockState::Locked,
            Some(lease) if now < lease.over_by => LockState::Unknown,
            _ if perhaps => LockState::Unknown,
            _ => LockState::NotLocked,
        }
    }

    /// What is left of the guarantee.
    pub fn left(&self, now: Duration) -> Duration {
        let lease = self.lease.filter(|_| !self.closed);
        lease.map_or(Duration::ZERO, |lease| lease.until.saturating_sub(now))
    }

    /// The lease that is held or may be.
    pub fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// When nothing can be left in the server any more; the present where nothing is known to be.
    pub fn over_by(&self, now: Duration) -> Duration {
        let leased = self.lease.map(|lease| lease.over_by);
        leased.max(self.perhaps_until).map_or(now, |over_by| over_by.max(now))
    }

    /// When the state changes by itself next.
    pub fn next_change(&self, now: Duration) -> Option<Duration> {
        let ends = self.lease.into_iter().flat_map(|lease| [lease.until, lease.over_by]);
        ends.chain(self.perhaps_until).filter(|end| *end > now).min()
    }

    /// An operation begins; its number. An unlock ends the one that is under way, which then may say what it likes.
    pub fn begin(&mut self, operation: Operation, now: Duration) -> Result<u64, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.operation.is_some() && operation != Operation::Unlock {
            return Err(Refusal::Busy);
        }
        let may_be_held = self.lease.is_some_and(|lease| now < lease.over_by);
        // What was given back may be freed at any moment, also by an unlock that comes late.
        if operation == Operation::UpdateLease && (!may_be_held || self.given_back) {
            return Err(Refusal::NotHeld);
        }
        self.started += 1;
        self.operation = Some((self.started, operation));
        if operation == Operation::Unlock {
            self.given_back = true;
            // From when it is asked for, somebody else may have it.
            if let Some(lease) = &mut self.lease {
                lease.until = Duration::ZERO;
            }
        }
        Ok(self.started)
    }

    /// Whether this operation is still the one under way.
    pub fn is_current(&self, number: u64) -> bool {
        self.operation.is_some_and(|(current, _)| current == number)
    }

    /// The operation of this number ended. A stale one changes nothing, and is answered with false.
    pub fn end(&mut self, number: u64, ending: Ending) -> bool {
        let Some((_, operation)) = self.operation.filter(|(current, _)| *current == number) else {
            return false;
        };
        if self.closed {
            return false;
        }
        self.operation = None;
        match ending {
            Ending::Held(lease) => {
                self.given_back = false;
                self.found(Some(lease));
            }
            Ending::NotHeld => self.found(None),
            Ending::Nothing => {}
            Ending::Ambiguous { over_by, asked } => {
                self.asked.extend(asked);
                if self.unanswered != Some(Operation::Unlock) {
                    self.unanswered = Some(operation);
                }
                match &mut self.lease {
                    Some(lease) => lease.over_by = lease.over_by.max(over_by),
                    None => self.perhaps_until = self.perhaps_until.max(Some(over_by)),
                }
            }
        }
        true
    }

    fn found(&mut self, lease: Option<Lease>) {
        self.lease = lease;
        self.perhaps_until = None;
        self.unanswered = None;
        self.asked.clear();
    }

    /// What the server is to be asked about an operation that nobody answered, and the number of the question.
    pub fn unresolved(&self, now: Duration) -> Option<(u64, Question)> {
        let idle = self.operation.is_none() && self.state(now) == LockState::Unknown;
        let question = match (self.unanswered.filter(|_| idle)?, self.lease) {
            (Operation::UpdateLease, Some(lease)) => Question::IsHeld(lease.token),
            _ => Question::End(self.claims()),
        };
        Some((self.started, question))
    }

    /// What the server may keep.
    pub fn claims(&self) -> Claims {
        Claims {
            token: self.lease.map(|lease| lease.token),
            requests: self.asked.clone(),
        }
    }

    /// Whether the caller wanted it to end.
    pub fn is_given_back(&self) -> bool {
        self.given_back
    }

    /// The answer to the question of this number; stale where another operation has begun since.
    pub fn resolved(&mut self, number: u64, found: Option<Lease>) {
        if !self.closed && self.started == number && self.unanswered.is_some() {
            self.found(found);
        }
    }

    /// Nothing follows. What is to be given back.
    pub fn close(&mut self) -> Claims {
        self.closed = true;
        self.given_back = true;
        self.operation = None;
        let claims = self.claims();
        self.found(None);
        claims
    }
}

#[cfg(test)]
mod tests;

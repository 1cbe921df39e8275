//! Checks a recorded history of locks against what Ticketlock promises.
//!
//! A history is what clients saw, each event with the time at which it was seen, all on one clock. What a client asked
//! and was never answered *may* have happened, and is never counted against the server. Every property is one function
//! of [`check`], and each finds what it looks for in O(n log n).
//!
//! How: within a key, fencing tokens say in which order locks were granted, so nothing has to be guessed. Along that
//! order every enqueue, grant and release gets the earliest instant that its bounds and its predecessors leave; where
//! that is later than the latest instant that the client saw, no order of events explains what was seen. For exclusive
//! locks this decides linearizability exactly; tests compare it with an exhaustive tester.

#![no_std]
extern crate alloc;

mod answers;
pub mod check;
mod order;
mod tickets;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Since some instant that all recorders share.
pub type Time = Duration;

/// How a lock was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Bars all others.
    #[default]
    Exclusive,
    /// Goes with others of its kind.
    Shared,
    /// So many of so many.
    Permits {
        /// Taken.
        permits: u32,
        /// There are.
        capacity: u32,
    },
}

/// What a client did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is about to send its request, perhaps again.
    Asked(Mode),
    /// It was told that it is in line.
    Queued,
    /// It was told its token, and counts its lease until then.
    Granted {
        /// The fencing token.
        token: u64,
        /// Until when it believes to hold.
        until: Time,
    },
    /// A later look: it still believes to hold, until then.
    Counts {
        /// Until when.
        until: Time,
    },
    /// It is about to leave the line, by a word or by going away.
    Leaving,
    /// It was told for certain that it is not in line and holds nothing.
    Refused,
    /// It was away for a time: others may have passed it.
    Away,
    /// It is about to send an unlock.
    Unlocking,
    /// An unlock was answered.
    Unlocked(Unlocked),
    /// It was told that it holds no longer, without its own doing.
    Lost,
    /// It does not count on it any longer, by its own clock and without a word of the server's.
    GaveUp,
    /// It saw a read's answer: the tokens that hold the key.
    Saw {
        /// When the read was sent.
        sent: Time,
        /// Whose locks.
        tokens: Vec<u64>,
    },
}

/// The answer to an unlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlocked {
    /// This call ended the hold.
    Released,
    /// It had ended before.
    AlreadyReleased,
    /// The token was never given.
    NotFound,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When; of what is about to be sent: before that, of what was seen: after that.
    pub at: Time,
    /// Which lock.
    pub key: Arc<str>,
    /// Which logical request: a repeat has the same number. Reads have a number of their own.
    pub request: u64,
    /// What.
    pub what: What,
}

/// A named property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// I1: holds of a key that exclude each other do not overlap.
    MutualExclusion,
    /// I2: a key's tokens grow, and none is given twice.
    TokenGrowth,
    /// I3: who was in line first is granted first.
    Fifo,
    /// I4: what was acknowledged stays: a hold until its end, an unlock for good.
    NothingLost,
    /// I5: no hold ends before its lease, but by its own client.
    LeaseKept,
    /// I6: nobody is left in line.
    NoLostWaiter,
    /// I7: repeats have one effect.
    ExactlyOnce,
}

impl fmt::Display for Property {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::MutualExclusion => "mutual exclusion (I1)",
            Self::TokenGrowth => "token growth (I2)",
            Self::Fifo => "FIFO (I3)",
            Self::NothingLost => "nothing acknowledged is lost (I4)",
            Self::LeaseKept => "leases are kept (I5)",
            Self::NoLostWaiter => "no lost waiter (I6)",
            Self::ExactlyOnce => "exactly once (I7)",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// On which key.
    pub key: Arc<str>,
    /// When it was seen.
    pub at: Time,
    /// What contradicts what.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} at {:.6} s, key {:?}: {}",
            self.property,
            self.at.as_secs_f64(),
            self.key,
            self.text
        )
    }
}

/// What was recorded.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In any order.
    pub events: Vec<Event>,
    /// It was recorded to its end: every request got its last answer, or its client went away.
    pub complete: bool,
}

impl History {
    /// Every broken promise, in the order of time.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let keys = tickets::by_key(&self.events);
        let mut found = Vec::new();
        for key in &keys {
            found.extend(check::mutual_exclusion(key));
            found.extend(check::token_growth(key));
            found.extend(check::fifo(key));
            found.extend(check::nothing_lost(key));
            found.extend(check::lease_kept(key));
            found.extend(check::exactly_once(key));
            if self.complete {
                found.extend(check::no_lost_waiter(key));
            }
        }
        found.sort_by(|a, b| a.at.cmp(&b.at).then(a.property.cmp(&b.property)));
        found
    }
}

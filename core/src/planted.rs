//! Defects that tests plant, to see that they are found: see `scripts/planted.py`.
//!
//! Without the feature `planted`, which nothing that ships has, no defect can be chosen and every question for one is
//! `false` at compile time.

/// A defect, with the rule that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// T2: a renewal is answered, and the lease ends when it did before.
    RenewalNotKept = 1,
    /// Q1: the line is a stack.
    LastInFirstOut,
    /// G2: after a restart numbers go on from what is there, not from the mark.
    TokenReused,
    /// G1: the file store answers before it has written.
    AnsweredBeforeSync,
    /// T4: a new data file's name is not synced.
    NameNotSynced,
    /// Q3: a waiter whose client has gone stays in line.
    WaiterLeftBehind,
    /// I1: a repeat of a request takes a new ticket.
    RequestIdIgnored,
    /// T1: leases run on the wall clock.
    WallClock,
    /// T1: at its very end a lease is not over yet.
    ExpiryOffByOne,
    /// I4: an unlock ends whatever holds the key, whoever asks.
    AnyTokenUnlocks,
    /// What waits for a commit is not taken up when the commit before it is done.
    WakeUpLost,
    /// A session that does not read is not ended.
    OutboxUnbounded,
}

impl Bug {
    /// All of them, by the names that they are chosen by.
    pub const ALL: [(&'static str, Self); 12] = [
        ("renewal-not-kept", Self::RenewalNotKept),
        ("last-in-first-out", Self::LastInFirstOut),
        ("token-reused", Self::TokenReused),
        ("answered-before-sync", Self::AnsweredBeforeSync),
        ("name-not-synced", Self::NameNotSynced),
        ("waiter-left-behind", Self::WaiterLeftBehind),
        ("request-id-ignored", Self::RequestIdIgnored),
        ("wall-clock", Self::WallClock),
        ("expiry-off-by-one", Self::ExpiryOffByOne),
        ("any-token-unlocks", Self::AnyTokenUnlocks),
        ("wake-up-lost", Self::WakeUpLost),
        ("outbox-unbounded", Self::OutboxUnbounded),
    ];
}

#[cfg(feature = "planted")]
static PLANTED: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Plants the defect of this name for the rest of the process. False: there is none, or the feature is off.
#[must_use]
pub fn plant(name: &str) -> bool {
    let found = Bug::ALL.iter().find(|(known, _)| *known == name);
    #[cfg(feature = "planted")]
    if let Some((_, bug)) = found {
        PLANTED.store(*bug as u8, core::sync::atomic::Ordering::SeqCst);
        return true;
    }
    let _ = found;
    false
}

/// Whether this defect was planted.
#[inline]
#[must_use]
pub fn planted(bug: Bug) -> bool {
    #[cfg(feature = "planted")]
    return PLANTED.load(core::sync::atomic::Ordering::Relaxed) == bug as u8;
    #[cfg(not(feature = "planted"))]
    {
        let _ = bug;
        false
    }
}

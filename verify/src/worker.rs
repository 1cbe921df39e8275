//! What clients do while they are looked at: everything that an application may do, drawn step by step.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_client::{
    Error, Guard, LockBuilder, LostReason, OnDisconnect, Outcome, RefusedReason, UnlockResult, Unlocked,
};
use ticketlock_history::{Mode, Unlocked as Answer, What};

use crate::{Link, Random, Recorder, Story};

/// Part of the names of keys that are held for longer than a lease.
const LONG: &str = "long";

/// Keys, and times.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Keys begin with this.
    pub prefix: String,
    /// How many keys there are of each mode.
    pub keys: u64,
    /// Length of leases.
    pub ttl: Duration,
    /// The longest wait and the longest short hold.
    pub while_busy: Duration,
    /// For how long a request survives a lost connection.
    pub grace: Duration,
    /// Whoever cuts connections writes it down, by [`Recorder::away_at`]. Else a request that saw a cut may have lost its
    /// place: nobody here knows for how long the server has seen it away.
    pub cuts_are_known: bool,
}

/// One of those that want locks.
pub struct Worker {
    link: Arc<Link>,
    recorder: Arc<Recorder>,
    plan: Arc<Plan>,
    draws: Random,
}

/// What a request wants.
struct Want {
    key: Arc<str>,
    mode: Mode,
    policy: OnDisconnect,
}

impl Worker {
    /// Draws its steps from this seed.
    #[must_use]
    pub fn new(link: Arc<Link>, recorder: Arc<Recorder>, plan: Arc<Plan>, seed: u64) -> Self {
        let draws = Random::new(seed);
        Self {
            link,
            recorder,
            plan,
            draws,
        }
    }

    fn want(&self) -> Want {
        let number = self.draws.below(self.plan.keys);
        // Of 200: what is held so long that it has to be renewed has keys of its own, lest everybody waits for it.
        let (name, mode) = match self.draws.below(200) {
            0 => (LONG, Mode::Exclusive),
            1..=40 => ("shared", Mode::Shared),
            41..=60 => ("shared", Mode::Exclusive),
            61..=80 => {
                let permits = 1 + u32::try_from(self.draws.below(3)).unwrap_or_default();
                ("permits", Mode::Permits { permits, capacity: 3 })
            }
            _ => ("one", Mode::Exclusive),
        };
        let key = format!("{}{name}/{number}", self.plan.prefix).into();
        let policy = match self.draws.below(4) {
            0 => OnDisconnect::Lease,
            _ => OnDisconnect::Grace(self.plan.grace),
        };
        Want { key, mode, policy }
    }

    /// One step: a lock and what becomes of it, or a read.
    pub async fn step(&self) {
        match self.draws.below(20) {
            0 => self.read().await,
            1 | 2 => self.try_lock().await,
            3 | 4 => self.lock_within().await,
            5 | 6 => self.lock_and_go_away().await,
            _ => self.lock().await,
        }
    }

    fn asks(&self, want: &Want) -> Story {
        self.recorder.asking(self.link.number(), &want.key, want.mode)
    }

    fn asking(&self, want: &Want, story: &Story) -> LockBuilder {
        let builder = self.link.client().lock(&*want.key).ttl(self.plan.ttl);
        let builder = match want.mode {
            Mode::Exclusive => builder,
            Mode::Shared => builder.shared(),
            Mode::Permits { permits, capacity } => builder.permits(permits, capacity),
        };
        let place_is_kept = self.plan.cuts_are_known && matches!(want.policy, OnDisconnect::Grace(_));
        let (queued, suspended) = (story.clone(), story.clone());
        builder
            .on_disconnect(want.policy)
            .on_queued(move |_| queued.add(What::Queued))
            .on_suspended(move || {
                if !place_is_kept {
                    suspended.add(What::Away);
                }
            })
    }

    /// Waits for as long as it takes.
    async fn lock(&self) {
        let want = self.want();
        let story = self.asks(&want);
        let asked = self.asking(&want, &story).await;
        self.answered(&story, asked).await;
    }

    /// Waits for a bounded time.
    async fn lock_within(&self) {
        let want = self.want();
        let longest = self.draws.shorter(self.plan.while_busy);
        let story = self.asks(&want);
        let asked = self.asking(&want, &story).wait(longest).await;
        self.answered(&story, asked).await;
    }

    /// Gives up while it waits, by dropping what it awaits.
    async fn lock_and_go_away(&self) {
        let want = self.want();
        let patience = self.draws.shorter(self.plan.while_busy);
        let story = self.asks(&want);
        let asking = async { self.asking(&want, &story).await };
        let mut asking = std::pin::pin!(asking);
        let asked = tokio::select! {
            biased;
            asked = &mut asking => asked,
            () = tokio::time::sleep(patience) => {
                return story.add(What::Leaving);
            }
        };
        self.answered(&story, asked).await;
    }

    async fn try_lock(&self) {
        let want = self.want();
        let story = self.asks(&want);
        let builder = self.link.client().try_lock(&*want.key).ttl(self.plan.ttl);
        let builder = match want.mode {
            Mode::Exclusive => builder,
            Mode::Shared => builder.shared(),
            Mode::Permits { permits, capacity } => builder.permits(permits, capacity),
        };
        let asked = builder.await;
        self.answered(&story, asked).await;
    }

    async fn read(&self) {
        let want = self.want();
        let sent = self.recorder.now();
        if let Ok(lock) = self.link.client().get(&want.key).await {
            let tokens = lock.holders.iter().map(|holder| holder.fencing_token).collect();
            self.recorder.saw(self.link.number(), &want.key, sent, tokens);
        }
    }

    async fn answered(&self, story: &Story, asked: Result<Guard, Error>) {
        match asked {
            Ok(guard) => {
                story.granted(&guard);
                self.hold(guard, story).await;
            }
            Err(error) => {
                let refused = matches!(
                    error,
                    Error::NotAcquired {
                        reason: RefusedReason::WaitTimeout | RefusedReason::WouldWait,
                        ..
                    }
                );
                // Of anything else nobody knows whether it waits, holds, or never arrived.
                story.add(if refused { What::Refused } else { What::Away });
                if !refused {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    async fn hold(&self, guard: Guard, story: &Story) {
        // What had to wait promises nothing by time until its first renewal was answered.
        if self.draws.below(3) == 0 && guard.confirmed().await.is_ok() {
            story.looks(&guard);
        }
        let long = match self.draws.below(4) {
            _ if guard.key().contains(LONG) => self.plan.ttl * 2,
            0 => self.draws.shorter(self.plan.while_busy),
            _ => Duration::ZERO,
        };
        let end = self.recorder.now() + long;
        let mut lost = std::pin::pin!(guard.lost());
        loop {
            let left = end.saturating_sub(self.recorder.now());
            if left.is_zero() {
                break;
            }
            let pause = left.min(self.draws.shorter(self.plan.ttl / 4) + Duration::from_millis(1));
            tokio::select! {
                biased;
                reason = &mut lost => {
                    story.lost(&reason);
                    break;
                }
                () = tokio::time::sleep(pause) => {}
            }
            story.looks(&guard);
        }
        story.looks(&guard);
        let (key, token) = (guard.key().to_owned(), guard.fencing_token());
        unlock(guard, story).await;
        if self.draws.below(10) == 0 {
            self.unlock_again(&key, token, story).await;
        }
    }

    /// A repeat that came late: it must find nothing to do.
    async fn unlock_again(&self, key: &str, token: u64, story: &Story) {
        story.add(What::Unlocking);
        let answer = self.link.client().unlock_token(key, token, Outcome::default()).await;
        match answer {
            Ok(UnlockResult::Released { .. }) => story.unlocked(Answer::Released),
            Ok(UnlockResult::AlreadyReleased { .. }) => story.unlocked(Answer::AlreadyReleased),
            Ok(UnlockResult::NotFound) => story.unlocked(Answer::NotFound),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Gives a lock back.
pub(crate) async fn unlock(guard: Guard, story: &Story) {
    story.add(What::Unlocking);
    match guard.unlock(Outcome::default()).await {
        Ok(Unlocked::Unlocked) => story.unlocked(Answer::Released),
        Ok(Unlocked::AlreadyLost(LostReason::Unconfirmed)) => story.lost(&LostReason::Unconfirmed),
        Ok(Unlocked::AlreadyLost(_)) => story.unlocked(Answer::AlreadyReleased),
        // Whether it was done is not known.
        Err(_) => {}
    }
}

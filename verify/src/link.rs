//! When a client was away: a lock of its own that it holds all the time tells.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticketlock_client::{Client, Error, Guard, GuardEvent, LostReason};
use ticketlock_history::{Mode, What};

use tokio::sync::Notify;

use crate::{Recorder, Story};

/// How long an absence is taken to be whose length is not known: long enough to be passed.
const LONG: Duration = Duration::from_secs(1);

/// A client, and how long it was away so far.
pub struct Link {
    number: u32,
    client: Client,
    recorder: Arc<Recorder>,
    away: Mutex<Away>,
    /// Rings when the run ends.
    ended: Notify,
}

/// How often a client was away until some instant, and for how long in sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absences {
    count: u32,
    total: Duration,
}

#[derive(Default)]
struct Away {
    /// Those that are over, but for `count`, which has the present one, too.
    all: Absences,
    since: Option<Duration>,
}

impl Away {
    fn begins(&mut self, now: Duration) {
        if self.since.is_none() {
            self.since = Some(now);
            self.all.count += 1;
        }
    }

    fn ends(&mut self, now: Duration) {
        if let Some(since) = self.since.take() {
            self.all.total += now.saturating_sub(since);
        }
    }
}

impl Link {
    /// Nothing is held yet: see [`run`](Self::run).
    #[must_use]
    pub fn new(number: u32, client: Client, recorder: Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self {
            number,
            client,
            recorder,
            away: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Which of the clients it is.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn lock(&self) -> MutexGuard<'_, Away> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it was away until now.
    #[must_use]
    pub fn away(&self) -> Absences {
        let away = self.lock();
        let now = away.since.map(|since| self.recorder.now().saturating_sub(since));
        Absences {
            total: away.all.total + now.unwrap_or_default(),
            ..away.all
        }
    }

    /// Writes down that a request may have lost its place: where its client was away for longer than this since it was
    /// sent, or more than once, for the second the server waits for nobody.
    pub fn tell(&self, story: &Story, before: Absences, unnoticed: Duration) {
        let away = self.away();
        if away.total.saturating_sub(before.total) > unnoticed || away.count > before.count + 1 {
            story.add(What::Away);
        }
    }

    /// Holds a lock until [`end`](Self::end), and writes down when it was cut off. Takes it anew where it was lost.
    pub async fn run(&self, key: &Arc<str>) {
        loop {
            let story = self.recorder.asking(self.number, key, Mode::Exclusive);
            let asking = async { self.client.lock(&**key).ttl(Duration::from_secs(5)).await };
            let guard = tokio::select! {
                biased;
                () = self.ended.notified() => return story.add(What::Leaving),
                guard = asking => guard,
            };
            match guard {
                Ok(guard) => {
                    story.granted(&guard);
                    let ended = self.keep(&guard, &story).await;
                    self.give_back(guard, &story).await;
                    if ended {
                        return;
                    }
                }
                Err(error) => {
                    story.add(What::Away);
                    if matches!(error, Error::Closed) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Ends [`run`](Self::run).
    pub fn end(&self) {
        self.ended.notify_one();
    }

    /// Whether the run has ended; else the lock was lost.
    async fn keep(&self, guard: &Guard, story: &Story) -> bool {
        let mut events = guard.events();
        loop {
            let event = tokio::select! {
                biased;
                () = self.ended.notified() => return true,
                event = events.next() => event,
            };
            let now = self.recorder.now();
            let mut away = self.lock();
            match event {
                Some(GuardEvent::Suspended) => away.begins(now),
                Some(GuardEvent::Lost(_)) | None => {
                    let reason = match event {
                        Some(GuardEvent::Lost(reason)) => reason,
                        _ => LostReason::Closed,
                    };
                    // How long is not known: whatever waits now may have been passed.
                    away.begins(now);
                    away.ends(now + LONG);
                    drop(away);
                    story.lost(&reason);
                    return false;
                }
                Some(_) => {
                    away.ends(now);
                    drop(away);
                    story.looks(guard);
                }
            }
        }
    }

    async fn give_back(&self, guard: Guard, story: &Story) {
        story.looks(&guard);
        crate::worker::unlock(guard, story).await;
    }
}

//! When a client was away: a lock of its own that it holds all the time tells.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticketlock_client::{Client, Error, Guard, GuardEvent, LostReason};
use ticketlock_history::{Mode, What};

use tokio::sync::Notify;

use crate::{Recorder, Story};

/// Shorter absences than this, in sum, cost nobody a place: the server waits for a head for a second.
const UNNOTICED: Duration = Duration::from_millis(500);

/// A client, and how long it was away so far.
pub struct Link {
    number: u32,
    client: Client,
    recorder: Arc<Recorder>,
    away: Mutex<Away>,
    /// Rings when the run ends.
    ended: Notify,
}

#[derive(Default)]
struct Away {
    total: Duration,
    since: Option<Duration>,
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

    /// How long it was away until now.
    #[must_use]
    pub fn away(&self) -> Duration {
        let away = self.lock();
        let now = away.since.map(|since| self.recorder.now().saturating_sub(since));
        away.total + now.unwrap_or_default()
    }

    /// Writes down that a request may have lost its place, if its client was away for long since it was sent.
    pub fn tell(&self, story: &Story, before: Duration) {
        if self.away().saturating_sub(before) > UNNOTICED {
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
                Some(GuardEvent::Suspended) => drop(away.since.get_or_insert(now)),
                Some(GuardEvent::Lost(_)) | None => {
                    let reason = match event {
                        Some(GuardEvent::Lost(reason)) => reason,
                        _ => LostReason::Closed,
                    };
                    // How long is not known: whatever waits now may have been passed.
                    away.total += UNNOTICED * 2;
                    away.since = None;
                    drop(away);
                    story.lost(&reason);
                    return false;
                }
                Some(_) => {
                    if let Some(since) = away.since.take() {
                        away.total += now.saturating_sub(since);
                    }
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

//! A client, and a lock of its own that it holds all the time, whatever happens to the way to the server.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_client::{Client, Error, Guard, GuardEvent, LostReason};
use ticketlock_history::{Mode, What};

use tokio::sync::Notify;

use crate::{Recorder, Story};

/// A client of those that load a server.
pub struct Link {
    number: u32,
    client: Client,
    recorder: Arc<Recorder>,
    /// Rings when the run ends.
    ended: Notify,
}

impl Link {
    /// Nothing is held yet: see [`run`](Self::run).
    #[must_use]
    pub fn new(number: u32, client: Client, recorder: Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self {
            number,
            client,
            recorder,
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

    /// Holds a lock until [`end`](Self::end). Takes it anew where it was lost.
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
            match event {
                Some(GuardEvent::Lost(reason)) => {
                    story.lost(&reason);
                    return false;
                }
                None => {
                    story.lost(&LostReason::Closed);
                    return false;
                }
                Some(_) => {
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

//! A history while it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticketlock_client::seams::Clock;
use ticketlock_client::{Guard, LostReason};
use ticketlock_history::{Event, History, Mode, Unlocked, Violation, What};

/// A request's number: its client above, a running number below.
const OF_CLIENT: u32 = 40;

/// Writes down what clients do and see, on one clock.
pub struct Recorder {
    clock: Arc<dyn Clock>,
    began: Duration,
    requests: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// An empty history that begins now.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let began = clock.now();
        Self {
            clock,
            began,
            requests: AtomicU64::new(0),
            events: Mutex::new(Vec::new()),
        }
    }

    /// Since it began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.now().saturating_sub(self.began)
    }

    /// A new logical request of a client, about to be sent.
    pub fn asking(self: &Arc<Self>, client: u32, key: &Arc<str>, mode: Mode) -> Story {
        let story = self.story(client, key);
        story.add(What::Asked(mode));
        story
    }

    /// What a read showed that a client sent then.
    pub fn saw(self: &Arc<Self>, client: u32, key: &Arc<str>, sent: Duration, tokens: Vec<u64>) {
        self.story(client, key).add(What::Saw { sent, tokens });
    }

    fn story(self: &Arc<Self>, client: u32, key: &Arc<str>) -> Story {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        Story {
            recorder: Arc::clone(self),
            key: Arc::clone(key),
            request: u64::from(client) << OF_CLIENT | number,
        }
    }

    /// A client is, or was, away or is no more: of its requests that are under way nobody knows the place.
    pub fn away_at(&self, at: Duration, client: u32) {
        let mut events = self.events();
        let mut under_way = BTreeMap::new();
        for event in events
            .iter()
            .filter(|event| event.request >> OF_CLIENT == u64::from(client))
        {
            match event.what {
                What::Asked(_) => drop(under_way.insert(event.request, Arc::clone(&event.key))),
                What::Refused | What::Leaving | What::Lost | What::GaveUp | What::Unlocked(_) => {
                    drop(under_way.remove(&event.request))
                }
                _ => {}
            }
        }
        let away = under_way.into_iter().map(|(request, key)| Event {
            at,
            key,
            request,
            what: What::Away,
        });
        events.extend(away);
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks what was recorded so far and begins anew, so that a long run takes no more memory than a short one. Call it
    /// while no request is under way. Each key's latest grants are kept, so that order is checked over the seam.
    pub fn check(&self, complete: bool) -> Checked {
        let mut events = self.events();
        let history = History {
            events: std::mem::take(&mut *events),
            complete,
        };
        *events = seam(&history.events);
        drop(events);
        let count = |wanted: fn(&What) -> bool| history.events.iter().filter(|event| wanted(&event.what)).count();
        Checked {
            events: history.events.len(),
            grants: count(|what| matches!(what, What::Granted { .. })),
            unknown: count(|what| matches!(what, What::Away)),
            violations: history
                .violations()
                .into_iter()
                .map(|violation| Found {
                    before: what_came_before(&history.events, &violation),
                    violation,
                })
                .collect(),
        }
    }

    /// Everything recorded since the last check, in a form that two runs can be compared by.
    #[must_use]
    pub fn trace(&self) -> String {
        let events = self.events();
        events.iter().map(line).collect()
    }
}

/// What a check looked at, and found.
#[derive(Debug, Default)]
pub struct Checked {
    /// What clients did and saw.
    pub events: usize,
    /// Locks that were granted.
    pub grants: usize,
    /// Requests whose place in line or outcome is not known, because the server or the way to it was away.
    pub unknown: usize,
    /// Broken promises.
    pub violations: Vec<Found>,
}

/// A broken promise, and what led to it.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub violation: Violation,
    /// The last things that were seen of the key, a line each.
    pub before: String,
}

impl Checked {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.grants += other.grants;
        self.unknown += other.unknown;
        self.violations.extend(other.violations);
    }
}

/// How much is told of what led to a violation.
const LINES_BEFORE: usize = 30;

fn what_came_before(events: &[Event], violation: &Violation) -> String {
    let mut of_key: Vec<&Event> = events
        .iter()
        .filter(|event| event.key == violation.key && event.at <= violation.at)
        .collect();
    of_key.sort_by_key(|event| event.at);
    let told = of_key.iter().skip(of_key.len().saturating_sub(LINES_BEFORE));
    told.map(|event| line(event)).collect()
}

fn line(event: &Event) -> String {
    format!("{:?} {} {} {:?}\n", event.at, event.key, event.request, event.what)
}

/// Of each key the story of its highest token, and of every wait and hold that goes on.
fn seam(events: &[Event]) -> Vec<Event> {
    let mut highest: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut open: BTreeSet<(&str, u64)> = BTreeSet::new();
    let mut waiting: BTreeSet<(&str, u64)> = BTreeSet::new();
    for event in events {
        let id = (&*event.key, event.request);
        match event.what {
            What::Granted { token, .. } => {
                let best = highest.entry(&event.key).or_default();
                *best = (*best).max((token, event.request));
                waiting.remove(&id);
                open.insert(id);
            }
            What::Asked(_) => drop(waiting.insert(id)),
            What::Refused | What::Leaving | What::Away => drop(waiting.remove(&id)),
            What::Unlocked(_) | What::Lost | What::GaveUp => drop(open.remove(&id)),
            _ => {}
        }
    }
    let kept = |event: &&Event| {
        let last = highest
            .get(&*event.key)
            .is_some_and(|(_, request)| *request == event.request);
        let id = (&*event.key, event.request);
        last || open.contains(&id) || waiting.contains(&id)
    };
    events.iter().filter(kept).cloned().collect()
}

/// One request's part of the history.
#[derive(Clone)]
pub struct Story {
    recorder: Arc<Recorder>,
    key: Arc<str>,
    request: u64,
}

impl Story {
    /// Something happened now.
    pub fn add(&self, what: What) {
        self.add_at(self.recorder.now(), what);
    }

    fn add_at(&self, at: Duration, what: What) {
        self.recorder.events().push(Event {
            at,
            key: Arc::clone(&self.key),
            request: self.request,
            what,
        });
    }

    /// It was granted now.
    pub fn granted(&self, guard: &Guard) {
        let at = self.recorder.now();
        let (token, until) = (guard.fencing_token(), at + guard.valid_for());
        self.add_at(at, What::Granted { token, until });
    }

    /// Looks whether the guard counts as held, and until when.
    pub fn looks(&self, guard: &Guard) -> bool {
        // Before it is asked: what it says counts from a later instant, so this is never more than it says.
        let at = self.recorder.now();
        let left = guard.valid_for();
        if !left.is_zero() {
            self.add_at(at, What::Counts { until: at + left });
        }
        !left.is_zero()
    }

    /// It was told why it holds no longer.
    pub fn lost(&self, reason: &LostReason) {
        self.add(match reason {
            // Its own clock and its own doing; the rest is the server's word.
            LostReason::Unconfirmed | LostReason::Closed | LostReason::Superseded => What::GaveUp,
            _ => What::Lost,
        });
    }

    /// Its unlock was answered.
    pub fn unlocked(&self, answer: Unlocked) {
        self.add(What::Unlocked(answer));
    }
}

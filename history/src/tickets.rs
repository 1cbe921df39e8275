//! Folds the events of a history into one record per hold or wait, key by key.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::{Event, Mode, Property, Time, Unlocked, Violation, What};

/// All that was seen of one key.
#[derive(Debug)]
pub struct Key {
    pub(crate) name: Arc<str>,
    /// In the order of their tokens, then those that were never granted.
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) reads: Vec<Read>,
}

/// One logical request; one that was granted twice is there twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticket {
    pub request: u64,
    pub mode: Mode,
    /// First sent.
    pub asked: Time,
    /// First told that it is in line.
    pub queued: Option<Time>,
    pub granted: Option<Granted>,
    /// It was granted under another token before.
    pub again: bool,
    pub leaving: Option<Time>,
    pub refused: Option<Time>,
    /// It was away at some time.
    pub away: bool,
}

/// What is known of a hold.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub token: u64,
    /// First told.
    pub at: Time,
    /// Its client counts until then, at most.
    pub until: Time,
    /// Its first unlock was sent.
    pub unlocking: Option<Time>,
    /// How often an unlock was sent.
    pub unlocks: usize,
    /// Answers to its unlocks.
    pub unlocked: Vec<(Time, Unlocked)>,
    /// It was told that it had lost it, before it sent an unlock.
    pub lost: Option<Time>,
    pub gave_up: Option<Time>,
}

impl Granted {
    /// The earliest instant at which the hold can have ended by what its client saw and did. One that an unlock ended
    /// was held until that was sent; another one that was over when its client was told of it can have ended at any time.
    pub fn kept_until(&self) -> Time {
        if let (Some(unlocking), Some(_)) = (self.unlocking, self.released()) {
            return unlocking;
        }
        if self.until <= self.at {
            return Time::ZERO;
        }
        let ends = [self.unlocking, self.lost, self.gave_up];
        ends.into_iter().flatten().fold(self.until, Time::min)
    }

    /// When an unlock was first answered as done.
    pub fn released(&self) -> Option<Time> {
        let done = |(at, answer): &(Time, Unlocked)| (*answer == Unlocked::Released).then_some(*at);
        self.unlocked.iter().filter_map(done).min()
    }
}

/// A read's answer.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub sent: Time,
    pub at: Time,
    pub tokens: Vec<u64>,
}

impl Key {
    pub(crate) fn violation(&self, property: Property, at: Time, text: String) -> Violation {
        Violation {
            property,
            key: Arc::clone(&self.name),
            at,
            text,
        }
    }

    /// Holds in the order of their tokens.
    pub(crate) fn holds(&self) -> impl DoubleEndedIterator<Item = (&Ticket, &Granted)> {
        self.tickets
            .iter()
            .filter_map(|ticket| Some((ticket, ticket.granted.as_ref()?)))
    }
}

/// Folds all events.
pub(crate) fn by_key(events: &[Event]) -> Vec<Key> {
    let mut order: Vec<&Event> = events.iter().collect();
    order.sort_by(|a, b| (&a.key, a.request, a.at).cmp(&(&b.key, b.request, b.at)));
    let mut keys: Vec<Key> = Vec::new();
    for of_request in order.chunk_by(|a, b| a.key == b.key && a.request == b.request) {
        let Some(first) = of_request.first() else { continue };
        if keys.last().is_none_or(|key| key.name != first.key) {
            keys.push(Key {
                name: Arc::clone(&first.key),
                tickets: Vec::new(),
                reads: Vec::new(),
            });
        }
        if let Some(key) = keys.last_mut() {
            fold(of_request, key);
        }
    }
    for key in &mut keys {
        let token = |ticket: &Ticket| ticket.granted.as_ref().map_or(u64::MAX, |granted| granted.token);
        key.tickets.sort_by_key(|ticket| (token(ticket), ticket.request));
        key.reads.sort_by_key(|read| read.sent);
    }
    keys
}

/// One request's events, in the order of time.
fn fold(events: &[&Event], key: &mut Key) {
    let mut ticket = Ticket::default();
    let mut asked = None;
    let mut holds: BTreeMap<u64, Granted> = BTreeMap::new();
    let mut latest = None;
    for event in events {
        let at = event.at;
        match &event.what {
            What::Saw { sent, tokens } => key.reads.push(Read {
                sent: *sent,
                at,
                tokens: tokens.clone(),
            }),
            What::Asked(mode) => {
                ticket.mode = *mode;
                asked.get_or_insert(at);
            }
            What::Queued => drop(ticket.queued.get_or_insert(at)),
            What::Leaving => drop(ticket.leaving.get_or_insert(at)),
            What::Refused => drop(ticket.refused.get_or_insert(at)),
            What::Away => ticket.away = true,
            What::Granted { token, until } => {
                latest = Some(*token);
                let granted = Granted {
                    token: *token,
                    at,
                    until: *until,
                    unlocking: None,
                    unlocks: 0,
                    unlocked: Vec::new(),
                    lost: None,
                    gave_up: None,
                };
                let hold = holds.entry(*token).or_insert(granted);
                hold.until = hold.until.max(*until);
            }
            of_hold => {
                if let Some(hold) = latest.and_then(|token| holds.get_mut(&token)) {
                    update(hold, at, of_hold);
                }
            }
        }
    }
    let Some(asked) = asked else { return };
    ticket.request = events.first().map_or(0, |event| event.request);
    ticket.asked = asked;
    if holds.is_empty() {
        key.tickets.push(ticket);
        return;
    }
    for (index, granted) in holds.into_values().enumerate() {
        key.tickets.push(Ticket {
            granted: Some(granted),
            again: index > 0,
            ..ticket.clone()
        });
    }
}

fn update(hold: &mut Granted, at: Time, what: &What) {
    match what {
        What::Counts { until } => hold.until = hold.until.max(*until),
        What::Unlocking => {
            hold.unlocking.get_or_insert(at);
            hold.unlocks += 1;
        }
        What::Unlocked(answer) => hold.unlocked.push((at, *answer)),
        What::Lost if hold.unlocking.is_none() => drop(hold.lost.get_or_insert(at)),
        What::GaveUp => drop(hold.gave_up.get_or_insert(at)),
        _ => {}
    }
}

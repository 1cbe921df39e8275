//! What the order of tokens must agree with.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::tickets::{Granted, Key, Ticket};
use crate::{Mode, Property, Time, Violation};

/// The latest of some bounds, and whose it is.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    at: Time,
    token: u64,
}

impl Latest {
    fn raise(&mut self, at: Time, token: u64) {
        if at > self.at {
            *self = Self { at, token };
        }
    }

    fn or(self, other: Self) -> Self {
        if other.at > self.at { other } else { self }
    }
}

fn seconds(at: Time) -> String {
    format!("{:.6} s", at.as_secs_f64())
}

/// I1. A lock that was told to its client before an earlier, incompatible one can have ended; permits beyond the
/// capacity.
#[must_use]
pub fn mutual_exclusion(key: &Key) -> Vec<Violation> {
    let mut found = Vec::new();
    // Until when holds were kept that came earlier, by mode.
    let (mut exclusive, mut shared, mut permits) = (Latest::default(), Latest::default(), Latest::default());
    for (ticket, hold) in key.holds() {
        let barred = match ticket.mode {
            Mode::Exclusive => exclusive.or(shared).or(permits),
            Mode::Shared => exclusive.or(permits),
            Mode::Permits { .. } => exclusive.or(shared),
        };
        if hold.at < barred.at {
            let text = format!(
                "token {} was granted while token {} was held until {}",
                hold.token,
                barred.token,
                seconds(barred.at)
            );
            found.push(key.violation(Property::MutualExclusion, hold.at, text));
        }
        let of_mode = match ticket.mode {
            Mode::Exclusive => &mut exclusive,
            Mode::Shared => &mut shared,
            Mode::Permits { .. } => &mut permits,
        };
        of_mode.raise(hold.kept_until(), hold.token);
    }
    found.extend(permits_kept(key));
    found
}

/// Permits that are certainly held at one time fit into the least capacity that was asked for.
fn permits_kept(key: &Key) -> Vec<Violation> {
    // At the same instant what ends goes first.
    let mut steps: Vec<(Time, bool, u64, u64)> = Vec::new();
    let mut least = u64::MAX;
    for (ticket, hold) in key.holds() {
        let Mode::Permits { permits, capacity } = ticket.mode else {
            continue;
        };
        least = least.min(u64::from(capacity));
        if hold.at < hold.kept_until() {
            steps.push((hold.at, true, u64::from(permits), hold.token));
            steps.push((hold.kept_until(), false, u64::from(permits), hold.token));
        }
    }
    steps.sort_unstable();
    let (mut taken, mut found) = (0, Vec::new());
    for (at, begins, permits, token) in steps {
        if !begins {
            taken -= permits;
            continue;
        }
        taken += permits;
        if taken > least {
            let text = format!("with token {token} {taken} permits are held, of {least}");
            found.push(key.violation(Property::MutualExclusion, at, text));
        }
    }
    found
}

/// I2. A token that two requests got, or one that is smaller than one that was told before it was asked for.
#[must_use]
pub fn token_growth(key: &Key) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut asked = Latest::default();
    let mut before: Option<(&Ticket, &Granted)> = None;
    for (ticket, hold) in key.holds() {
        if let Some((other, _)) = before.filter(|(_, earlier)| earlier.token == hold.token) {
            let text = format!(
                "token {} was given to requests {} and {}",
                hold.token, other.request, ticket.request
            );
            found.push(key.violation(Property::TokenGrowth, hold.at, text));
        } else if hold.at < asked.at {
            let text = format!(
                "token {} was granted before token {}, which is smaller, was asked for at {}",
                hold.token,
                asked.token,
                seconds(asked.at)
            );
            found.push(key.violation(Property::TokenGrowth, hold.at, text));
        }
        // A request that was granted anew was asked for long before.
        if !ticket.again {
            asked.raise(ticket.asked, hold.token);
        }
        before = Some((ticket, hold));
    }
    found
}

/// I3. One that was told that it is in line, and was passed by one that asked only later.
#[must_use]
pub fn fifo(key: &Key) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut asked = Latest::default();
    for (ticket, hold) in key.holds().filter(|(ticket, _)| !ticket.away && !ticket.again) {
        if let Some(queued) = ticket.queued.filter(|queued| *queued < asked.at) {
            let text = format!(
                "token {} was in line at {}, token {} was asked for later and granted first",
                hold.token,
                seconds(queued),
                asked.token
            );
            found.push(key.violation(Property::Fifo, hold.at, text));
        }
        asked.raise(ticket.asked, hold.token);
    }
    found.extend(passed_while_waiting(key));
    found
}

/// Those that were never granted, and were passed before they can have left.
fn passed_while_waiting(key: &Key) -> Vec<Violation> {
    let kind = |mode: Mode| core::mem::discriminant(&mode);
    let mut found = Vec::new();
    let kinds = [
        Mode::Exclusive,
        Mode::Shared,
        Mode::Permits {
            permits: 0,
            capacity: 0,
        },
    ];
    for of_kind in kinds.map(kind) {
        // One of those that go together may have been granted with the other, and not have heard of it yet.
        let together = |mode: Mode| kind(mode) == of_kind && mode != Mode::Exclusive;
        // By when they were asked for; then the earliest grant of those that were asked for then or later.
        let mut later: Vec<(Time, Time, u64)> = key
            .holds()
            .filter(|(ticket, _)| !together(ticket.mode))
            .map(|(ticket, hold)| (ticket.asked, hold.at, hold.token))
            .collect();
        later.sort_unstable();
        let mut earliest = (Time::MAX, 0);
        for (_, granted, token) in later.iter_mut().rev() {
            earliest = earliest.min((*granted, *token));
            (*granted, *token) = earliest;
        }
        let waiting = key.tickets.iter().filter(|ticket| kind(ticket.mode) == of_kind);
        found.extend(waiting.filter_map(|ticket| passed_by(key, ticket, &later)));
    }
    found
}

fn passed_by(key: &Key, ticket: &Ticket, later: &[(Time, Time, u64)]) -> Option<Violation> {
    // Of one that was refused without its own doing nobody knows when.
    let unknown = ticket.granted.is_some() || ticket.away || (ticket.refused.is_some() && ticket.leaving.is_none());
    let queued = ticket.queued.filter(|_| !unknown)?;
    let left = ticket.leaving.unwrap_or(Time::MAX);
    let first = later.partition_point(|(asked, ..)| *asked <= queued);
    let (_, granted, token) = later.get(first).filter(|(_, granted, _)| *granted < left)?;
    let text = format!(
        "request {} is in line since {}, token {token} was asked for later and granted",
        ticket.request,
        seconds(queued)
    );
    Some(key.violation(Property::Fifo, *granted, text))
}

//! What single answers must agree with.

use alloc::format;
use alloc::vec::Vec;

use crate::tickets::{Granted, Key};
use crate::{Mode, Property, Time, Unlocked, Violation};

/// I4. A token that the server no longer knows, an unlock that was undone, or a hold that a read does not show.
#[must_use]
pub fn nothing_lost(key: &Key) -> Vec<Violation> {
    let mut found = Vec::new();
    for (_, hold) in key.holds() {
        let unknown = hold.unlocked.iter().find(|(_, answer)| *answer == Unlocked::NotFound);
        if let Some((at, _)) = unknown {
            let text = format!(
                "token {} was granted, and its unlock answered that it never was",
                hold.token
            );
            found.push(key.violation(Property::NothingLost, *at, text));
        }
    }
    found.extend(reads_agree(key));
    found
}

/// Reads show what is held for certain, and nothing that was given back before.
fn reads_agree(key: &Key) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut by_token: Vec<&Granted> = key.holds().map(|(_, hold)| hold).collect();
    by_token.sort_by_key(|hold| hold.token);
    let mut by_mode: Vec<(u64, Mode)> = key.holds().map(|(ticket, hold)| (hold.token, ticket.mode)).collect();
    by_mode.sort_by_key(|(token, _)| *token);
    let mut by_time = by_token.clone();
    by_time.sort_by_key(|hold| hold.at);
    for read in &key.reads {
        for token in &read.tokens {
            let hold = by_token.binary_search_by_key(token, |hold| hold.token);
            let released = hold.ok().and_then(|index| by_token.get(index)?.released());
            if released.is_some_and(|released| released < read.sent) {
                let text = format!("token {token} was given back, and is held again");
                found.push(key.violation(Property::NothingLost, read.at, text));
            }
        }
        let alone = |token: &&u64| {
            let known = by_mode.binary_search_by_key(*token, |(token, _)| *token);
            known.is_ok_and(|index| by_mode.get(index).is_some_and(|(_, mode)| *mode == Mode::Exclusive))
        };
        if let Some(token) = read.tokens.iter().find(alone).filter(|_| read.tokens.len() > 1) {
            let text = format!("a read shows others beside token {token}, which is exclusive");
            found.push(key.violation(Property::MutualExclusion, read.at, text));
        }
        // Of those told before the read was sent, the latest.
        let told = by_time.partition_point(|hold| hold.at <= read.sent);
        let latest = told.checked_sub(1).and_then(|index| by_time.get(index));
        if let Some(hold) = latest.filter(|hold| read.at <= hold.kept_until() && !read.tokens.contains(&hold.token)) {
            let text = format!("token {} is held, and a read does not show it", hold.token);
            found.push(key.violation(Property::NothingLost, read.at, text));
        }
    }
    found
}

/// I5. A hold whose client was told that it has ended, before its lease and without its own doing.
#[must_use]
pub fn lease_kept(key: &Key) -> Vec<Violation> {
    let mut found = Vec::new();
    for (_, hold) in key.holds() {
        if let Some(lost) = hold.lost.filter(|lost| *lost < hold.until) {
            let text = format!("token {} was lost before its lease was over", hold.token);
            found.push(key.violation(Property::LeaseKept, lost, text));
            continue;
        }
        let (Some(unlocking), [(at, answer)], 1) = (hold.unlocking, hold.unlocked.as_slice(), hold.unlocks) else {
            continue;
        };
        if *answer == Unlocked::AlreadyReleased && *at < hold.until && unlocking < hold.until {
            let text = format!(
                "token {} had ended when it was unlocked, before its lease was over",
                hold.token
            );
            found.push(key.violation(Property::LeaseKept, *at, text));
        }
    }
    found
}

/// I7. Two unlocks of one token that both ended it, or one request that holds twice.
#[must_use]
pub fn exactly_once(key: &Key) -> Vec<Violation> {
    let mut found = Vec::new();
    for (ticket, hold) in key.holds() {
        let mut released = hold.unlocked.iter().filter(|(_, answer)| *answer == Unlocked::Released);
        if let Some((at, _)) = released.nth(1) {
            let text = format!("token {} was released twice", hold.token);
            found.push(key.violation(Property::ExactlyOnce, *at, text));
        }
        if ticket.again && !ticket.away {
            let text = format!(
                "request {} was granted again, with token {}",
                ticket.request, hold.token
            );
            found.push(key.violation(Property::ExactlyOnce, hold.at, text));
        }
    }
    found
}

/// I6, of a history that was recorded to its end: a request that was never told anything more.
#[must_use]
pub fn no_lost_waiter(key: &Key) -> Vec<Violation> {
    let left = key.tickets.iter().filter(|ticket| {
        ticket.granted.is_none() && ticket.refused.is_none() && ticket.leaving.is_none() && !ticket.away
    });
    left.map(|ticket| {
        let at: Time = ticket.queued.unwrap_or(ticket.asked);
        let text = format!("request {} was never answered", ticket.request);
        key.violation(Property::NoLostWaiter, at, text)
    })
    .collect()
}

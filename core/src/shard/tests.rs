//! The shortest story of the machine: a line moves. The rule book is tested from outside, in `tests/`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::command::{Command, LockRequest, Reply, Unlock, UnlockReply};
use crate::output::{Effect, Event, Output};
use crate::record::Records;
use crate::types::{EventOptions, Number, Outcome, RequestId, Stream, StreamId, StreamKind, Terms, Time};
use crate::{Config, Shard};

fn lock(owner: &str, stream: u64) -> Command {
    lock_on(owner, stream, StreamKind::Plain, 0)
}

fn lock_on(owner: &str, stream: u64, kind: StreamKind, attach_number: u64) -> Command {
    Command::Lock(Box::new(LockRequest {
        terms: Arc::new(Terms {
            request_id: Some(RequestId([7; 16])),
            ..Terms::exclusive("a", owner)
        }),
        attach_number,
        attach_only: false,
        stream: Some(Stream {
            id: StreamId(stream),
            kind,
        }),
        ttl: Duration::from_secs(30),
        events: EventOptions::default(),
    }))
}

fn grants(out: &Output) -> Vec<(u64, Number)> {
    let granted = |effect: &Effect| match effect {
        Effect::Push {
            stream,
            event: Event::Granted(granted),
            ..
        } => Some((stream.0, granted.token)),
        _ => None,
    };
    out.effects.iter().filter_map(granted).collect()
}

fn unlock(owner: &str, token: Number) -> Command {
    Command::Unlock(Unlock {
        key: Arc::from("a"),
        owner: Arc::from(owner),
        token: Some(token),
        request_id: None,
        outcome: Outcome::default(),
    })
}

/// A grant that is told anew is worth its time from the repeat (T2), also when the commit of that, and so its push, takes
/// longer than was left. The simulation found it otherwise.
#[test]
fn a_repeated_grant_is_kept_while_its_push_waits() {
    let mut shard = Shard::recover(Config::default(), Records::default(), Time(1));
    let mut out = Output::default();
    let at = |millis: u64| Time(millis * 1_000_000);
    shard.apply(lock("x", 1), at(1), &mut out);
    shard.apply(lock_on("y", 2, StreamKind::Session, 0), at(2), &mut out);
    shard.apply(unlock("x", 1), at(3), &mut out);
    let token = grants(&out).last().map(|(_, token)| *token);
    out.granted.clear();
    shard.apply(lock_on("y", 3, StreamKind::Session, 1), at(1_000), &mut out);
    shard.unsent(&out.granted);
    shard.expire_due(at(1_500), &mut out);
    shard.check();
    shard.pushed(&out.granted, at(1_800));
    shard.check();
    shard.expire_due(at(2_700), &mut out);
    let reply = shard.apply(unlock("y", token.unwrap_or_default()), at(2_750), &mut out);
    assert_eq!(reply, Reply::Unlock(Ok(UnlockReply::Released { claims: 0 })));
}

/// Three take tickets; each unlock grants the next in order, with growing tokens; at the end nothing is left.
#[test]
fn grants_in_order_and_leaves_nothing() {
    let mut shard = Shard::recover(Config::default(), Records::default(), Time(1));
    let mut out = Output::default();
    for (owner, stream) in [("x", 1), ("y", 2), ("z", 3)] {
        shard.apply(lock(owner, stream), Time(2), &mut out);
        shard.check();
    }
    assert_eq!(grants(&out), [(1, 1)], "only the first is granted");
    let mut token = 1;
    for (owner, next) in [("x", Some(2)), ("y", Some(3)), ("z", None)] {
        let mut out = Output::default();
        let reply = shard.apply(unlock(owner, token), Time(3), &mut out);
        shard.check();
        assert_eq!(reply, Reply::Unlock(Ok(UnlockReply::Released { claims: 0 })));
        let granted = grants(&out);
        assert_eq!(granted.first().map(|(stream, _)| *stream), next);
        assert!(granted.iter().all(|(_, new)| *new > token), "tokens grow");
        token = granted.first().map_or(token, |(_, token)| *token);
    }
    assert_eq!(shard.totals(), crate::shard::Totals::default());
    assert_eq!(shard.next_deadline(), None, "no timer is left");
}

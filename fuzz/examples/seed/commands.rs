//! Stories of one shard: its lines, its times, its ends.

use super::Seed;
use super::story::{
    BY_TOKEN, DELAY, EVENTS, GRACE, LEASE, MAX_HOLD, NO_ID, ONLY, REENTER, REFUSE, SESSION, SHARED, SILENT, SUCCESS,
    Story, TWO_PERMITS, WAIT, millis, seconds,
};

pub(super) fn seeds() -> Vec<Seed> {
    let stories = lines().into_iter().chain(times()).chain(ends());
    stories.map(|(name, story)| (name, story.bytes())).collect()
}

fn lines() -> Vec<(&'static str, Story)> {
    let new = Story::new;
    let three = || new().plain(0, 0).plain(1, 1).plain(2, 2);
    vec![
        ("one-holds", new().plain(0, 0)),
        ("line-of-three", three().unlock(BY_TOKEN, NO_ID).unlock(BY_TOKEN, NO_ID)),
        (
            "line-cancelled",
            new()
                .plain(0, 0)
                .plain(0, 1)
                .plain(2, 2)
                .unlock(0, 1)
                .unlock(BY_TOKEN | SUCCESS, NO_ID),
        ),
        (
            "shared-together",
            new()
                .lock(0, 0, SHARED, 0, &[])
                .lock(1, 1, SHARED, 0, &[])
                .plain(2, 2)
                .lock(0, 3, SHARED, 0, &[]),
        ),
        (
            "permits",
            new()
                .lock(0, 0, TWO_PERMITS, 0, &[])
                .lock(1, 1, TWO_PERMITS, 0, &[])
                .lock(2, 2, 2, 0, &[]),
        ),
        (
            "permits-other-capacity",
            new().lock(0, 0, 2, 0, &[]).lock(1, 1, 2 | 1 << 4, 0, &[]),
        ),
        (
            "mixed-modes",
            new().lock(0, 0, 2, 0, &[]).lock(1, 1, SHARED, 0, &[]).plain(2, 2),
        ),
        (
            "reenter",
            new()
                .plain(0, 0)
                .lock(0, 1, REENTER, 0, &[])
                .unlock(BY_TOKEN, 1)
                .unlock(BY_TOKEN, 0),
        ),
        (
            "reenter-no-id",
            new()
                .plain(0, 0)
                .lock(0, NO_ID, REENTER, 0, &[])
                .unlock(BY_TOKEN, NO_ID),
        ),
        ("refuse-self", new().plain(0, 0).lock(0, 1, REFUSE, 0, &[])),
        (
            "repeat",
            new()
                .plain(0, 0)
                .plain(0, 0)
                .lock(0, 0, 0, 2 << 2, &[])
                .lock(0, 0, SHARED, 0, &[]),
        ),
        (
            "attach-only",
            new().lock(ONLY, 0, 0, 0, &[]).plain(0, 0).lock(ONLY, 0, 0, 1 << 2, &[]),
        ),
        (
            "try",
            new()
                .attempt(0, 0, 0)
                .attempt(1, 1, 0)
                .attempt(0, 0, 0)
                .after(seconds(6))
                .attempt(1, 1, SHARED),
        ),
        (
            "full-line",
            Story::tight()
                .plain(0, 0)
                .plain(1, 1)
                .plain(2, 2)
                .lock(0, 3, REENTER, 0, &[]),
        ),
    ]
}

fn times() -> Vec<(&'static str, Story)> {
    let new = Story::new;
    let lease = |owner: u8, id: u8| new().lock(owner, id, 0, LEASE, &[]);
    let wait = [seconds(1), seconds(60)].concat();
    vec![
        ("lease-ends", lease(0, 0).plain(1, 1).after(seconds(11))),
        (
            "lease-renewed",
            lease(0, 0)
                .after(seconds(8))
                .renew(0)
                .after(seconds(8))
                .renew(0)
                .after(seconds(11)),
        ),
        (
            "session-acks",
            new()
                .plain(0, 0)
                .plain(SESSION | 1, 1)
                .unlock(BY_TOKEN, NO_ID)
                .renew(0)
                .after(seconds(11)),
        ),
        (
            "session-not-acked",
            new()
                .plain(0, 0)
                .plain(SESSION | 1, 1)
                .plain(2, 2)
                .unlock(BY_TOKEN, NO_ID)
                .beat(0)
                .after(millis(1_001)),
        ),
        (
            "session-beats",
            new()
                .plain(SESSION, 0)
                .after(seconds(5))
                .beat(0)
                .after(seconds(9))
                .after(seconds(2)),
        ),
        (
            "wait-timeout",
            new()
                .plain(0, 0)
                .lock(1, 1, 0, WAIT, &millis(500))
                .after(millis(500))
                .plain(1, 1),
        ),
        (
            "max-hold",
            new()
                .lock(0, 0, 0, MAX_HOLD, &seconds(20))
                .plain(1, 1)
                .after(seconds(20)),
        ),
        (
            "lock-delay",
            new()
                .lock(0, 0, 0, LEASE | DELAY, &seconds(5))
                .plain(1, 1)
                .after(seconds(11))
                .attempt(2, 2, 0),
        ),
        (
            "updates",
            new()
                .lock(0, 0, 0, EVENTS, &[])
                .lock(0, 1, 0, EVENTS, &[])
                .lock(2, 2, 0, EVENTS, &[])
                .unlock(0, 1)
                .after(seconds(2)),
        ),
        (
            "expiring",
            new()
                .lock(0, 0, 0, LEASE | EVENTS, &[])
                .after(seconds(7))
                .renew(0)
                .after(seconds(7)),
        ),
        (
            "stall",
            lease(0, 0)
                .lock(1, 1, 0, WAIT | DELAY, &wait)
                .stall(seconds(30))
                .renew(0)
                .after(seconds(20)),
        ),
    ]
}

fn ends() -> Vec<(&'static str, Story)> {
    let new = Story::new;
    let grace = || new().lock(0, 0, 0, GRACE, &seconds(3)).plain(1, 1);
    vec![
        ("detach-ended", new().plain(0, 0).plain(1, 1).detach(0)),
        (
            "detach-silent",
            new().plain(0, 0).renew(0).plain(1, 1).detach(SILENT).after(seconds(11)),
        ),
        (
            "detach-waiter",
            new()
                .plain(0, 0)
                .plain(1, 1)
                .plain(2, 2)
                .detach(1)
                .unlock(BY_TOKEN, NO_ID),
        ),
        (
            "grace-comes-back",
            grace()
                .detach(0)
                .after(seconds(2))
                .lock(0, 0, 0, GRACE | 1 << 2, &seconds(3)),
        ),
        ("grace-passes", grace().detach(SILENT).after(seconds(4)).plain(0, 0)),
        (
            "head-is-away",
            new()
                .plain(0, 0)
                .lock(1, 1, 0, GRACE, &seconds(9))
                .plain(2, 2)
                .detach(1)
                .unlock(BY_TOKEN, NO_ID)
                .after(millis(1_001)),
        ),
        ("forced", new().plain(0, 0).plain(1, 1).force(0).plain(0, 0).force(1)),
        (
            "restart-process",
            new()
                .plain(0, 0)
                .plain(1, 1)
                .restart(false)
                .lock(1, 1, 0, 1 << 2, &[])
                .after(seconds(11)),
        ),
        (
            "restart-shard",
            new()
                .plain(0, 0)
                .plain(SESSION | 1, 1)
                .plain(2, 2)
                .restart(true)
                .unlock(BY_TOKEN, NO_ID)
                .restart(true)
                .renew(0),
        ),
        (
            "outcome-survives",
            new()
                .plain(0, 0)
                .plain(1, 1)
                .restart(false)
                .unlock(BY_TOKEN | SUCCESS, NO_ID)
                .restart(false)
                .lock(1, 1, 0, 1 << 2, &[]),
        ),
    ]
}

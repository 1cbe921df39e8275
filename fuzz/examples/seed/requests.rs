//! Requests as clients send them, and as they should not.

use prost::Message;
use ticketlock_proto::v1::{
    Attach, AttachMode, EventOptions, ForceUnlockRequest, GetLockRequest, Hello, ListLocksRequest, LockMode,
    LockRequest, OnDisconnect, Outcome, OutcomeStatus, RenewItem, RenewRequest, SameOwner, SessionCall, SessionRequest,
    TryLockRequest, UnlockRequest, WatchLocksRequest, session_call::Call,
};

use super::Seed;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = locks();
    seeds.extend(refused_locks());
    seeds.extend(tries());
    seeds.extend(others());
    seeds.extend(sessions());
    seeds
}

fn locks() -> Vec<Seed> {
    let full = LockRequest {
        request_id: vec![7; 16],
        attach: Some(Attach {
            number: 3,
            mode: AttachMode::Only.into(),
        }),
        mode: LockMode::Permits.into(),
        permits: 2,
        capacity: 1_000_000,
        ttl: span(15, 0),
        wait_timeout: span(600, 0),
        on_disconnect: OnDisconnect::Grace.into(),
        grace: span(3_600, 0),
        same_owner: SameOwner::Reenter.into(),
        lock_delay: span(60, 0),
        max_hold: span(86_400, 0),
        events: Some(EventOptions {
            queue_updates: true,
            contended: true,
            expiring: true,
        }),
        ..lock()
    };
    let shared = LockRequest {
        mode: LockMode::Shared.into(),
        ..lock()
    };
    let lease = LockRequest {
        on_disconnect: OnDisconnect::Lease.into(),
        same_owner: SameOwner::Refuse.into(),
        ..lock()
    };
    let shortest = LockRequest {
        ttl: span(0, 100_000_000),
        wait_timeout: span(0, 0),
        ..lock()
    };
    let for_ever = LockRequest {
        wait_timeout: span(i64::MAX, 999_999_999),
        ..lock()
    };
    // One by one, because a map is encoded in an order of its own; messages that follow each other are one.
    let mut bytes = full.encode_to_vec();
    for name in ["job", "host", "run", "by"] {
        let part = LockRequest {
            metadata: [(name.to_owned(), "1".to_owned())].into(),
            ..LockRequest::default()
        };
        bytes.extend(part.encode_to_vec());
    }
    vec![
        ("lock", lock().encode_to_vec()),
        ("lock-full", bytes),
        ("lock-shared", shared.encode_to_vec()),
        ("lock-lease-refuse", lease.encode_to_vec()),
        ("lock-shortest", shortest.encode_to_vec()),
        ("lock-for-ever", for_ever.encode_to_vec()),
    ]
}

fn refused_locks() -> Vec<Seed> {
    let negative = LockRequest {
        ttl: span(-1, 0),
        ..lock()
    };
    let no_duration = LockRequest {
        max_hold: span(i64::MIN, i32::MIN),
        ..lock()
    };
    let mode = LockRequest { mode: 17, ..lock() };
    let permits = LockRequest { permits: 1, ..lock() };
    let grace = LockRequest {
        grace: span(1, 0),
        ..lock()
    };
    let request_id = LockRequest {
        request_id: vec![7; 15],
        ..lock()
    };
    let deadlock = LockRequest {
        detect_deadlock: true,
        ..lock()
    };
    let attach = LockRequest {
        attach: Some(Attach { number: 1, mode: -1 }),
        ..lock()
    };
    let mut not_utf8 = lock().encode_to_vec();
    not_utf8.extend_from_slice(&[0x12, 0x02, 0xff, 0xfe]);
    let mut cut = lock().encode_to_vec();
    cut.pop();
    vec![
        ("lock-negative", negative.encode_to_vec()),
        ("lock-no-duration", no_duration.encode_to_vec()),
        ("lock-mode", mode.encode_to_vec()),
        ("lock-permits", permits.encode_to_vec()),
        ("lock-grace", grace.encode_to_vec()),
        ("lock-request-id", request_id.encode_to_vec()),
        ("lock-deadlock", deadlock.encode_to_vec()),
        ("lock-attach", attach.encode_to_vec()),
        ("lock-not-utf8", not_utf8),
        ("lock-cut", cut),
    ]
}

fn tries() -> Vec<Seed> {
    let plain = TryLockRequest {
        key: "jobs/nightly".into(),
        owner: "x".into(),
        ..TryLockRequest::default()
    };
    let full = TryLockRequest {
        request_id: vec![9; 16],
        mode: LockMode::Permits.into(),
        permits: 1,
        capacity: 4,
        ttl: span(5, 0),
        same_owner: SameOwner::Reenter.into(),
        lock_delay: span(1, 0),
        max_hold: span(10, 0),
        ..plain.clone()
    };
    vec![("try", plain.encode_to_vec()), ("try-full", full.encode_to_vec())]
}

fn others() -> Vec<Seed> {
    let too_long = RenewItem {
        ttl: span(86_400, 1),
        ..item(9)
    };
    let renew = |items| RenewRequest {
        owner: "x".into(),
        items,
    };
    let get = GetLockRequest {
        key: "jobs/nightly".into(),
        owner: "x".into(),
        waiters_limit: 1_000,
    };
    let list = ListLocksRequest {
        prefix: "jobs/".into(),
        page_size: 1_001,
        page_token: "6a6f6273".into(),
        waiters_limit: 10,
    };
    let watch = WatchLocksRequest { prefix: "jobs/".into() };
    let force = ForceUnlockRequest {
        key: "jobs/nightly".into(),
        fencing_token: 7,
        reason: "stuck since noon".into(),
        by: "operator".into(),
    };
    let lost = UnlockRequest {
        outcome: Some(Outcome {
            status: OutcomeStatus::Lost.into(),
            note: String::new(),
        }),
        ..unlock()
    };
    let by_id = UnlockRequest {
        fencing_token: 0,
        request_id: vec![7; 16],
        ..unlock()
    };
    vec![
        ("unlock", unlock().encode_to_vec()),
        ("unlock-by-id", by_id.encode_to_vec()),
        ("unlock-lost", lost.encode_to_vec()),
        (
            "renew",
            renew(vec![item(7), item((1 << 53) - 1), too_long]).encode_to_vec(),
        ),
        ("renew-no-token", renew(vec![item(7), item(1 << 53)]).encode_to_vec()),
        ("get", get.encode_to_vec()),
        ("list", list.encode_to_vec()),
        ("watch", watch.encode_to_vec()),
        ("force-unlock", force.encode_to_vec()),
        ("empty", Vec::new()),
    ]
}

fn sessions() -> Vec<Seed> {
    let opening = SessionRequest {
        number: 1,
        hello: Some(Hello {
            owner: "x".into(),
            attach: 1,
        }),
        ..SessionRequest::default()
    };
    let asked = LockRequest {
        owner: String::new(),
        request_id: vec![7; 16],
        ..lock()
    };
    let calls = [
        Call::Lock(asked),
        Call::Unlock(unlock()),
        Call::Renew(item(7)),
        Call::Get(GetLockRequest {
            key: "k".into(),
            ..GetLockRequest::default()
        }),
        Call::List(ListLocksRequest::default()),
    ];
    let calls = calls.into_iter().zip(1..);
    let batch = SessionRequest {
        heartbeat: true,
        calls: calls.map(|(call, id)| SessionCall { id, call: Some(call) }).collect(),
        ..opening.clone()
    };
    let newer = SessionRequest {
        calls: vec![SessionCall { id: 1, call: None }],
        ..opening.clone()
    };
    vec![
        ("session-hello", opening.encode_to_vec()),
        ("session-calls", batch.encode_to_vec()),
        ("session-newer-call", newer.encode_to_vec()),
    ]
}

fn lock() -> LockRequest {
    LockRequest {
        key: "jobs/nightly".into(),
        owner: "x@host".into(),
        ..LockRequest::default()
    }
}

fn unlock() -> UnlockRequest {
    UnlockRequest {
        key: "jobs/nightly".into(),
        owner: "x".into(),
        fencing_token: (1 << 53) - 1,
        outcome: Some(Outcome {
            status: OutcomeStatus::Success.into(),
            note: "42 rows".into(),
        }),
        ..UnlockRequest::default()
    }
}

fn item(fencing_token: u64) -> RenewItem {
    RenewItem {
        key: "jobs/nightly".into(),
        fencing_token,
        ttl: span(30, 0),
    }
}

fn span(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

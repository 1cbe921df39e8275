//! What is refused, and with which words; and that nothing valid is.

use std::time::Duration;

use ticketlock_core::types::{Mode, OnDisconnect};
use ticketlock_proto::v1;

use super::{lock_request, page, page_token, renew_request, to_page_token, unlock_request};
use crate::config::Limits;
use crate::grpc::status::ErrorReason;

/// A request that is as short as can be.
fn plain() -> v1::LockRequest {
    v1::LockRequest {
        key: "k".into(),
        owner: "o".into(),
        ..v1::LockRequest::default()
    }
}

/// A duration on the wire.
fn wire(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

/// The request is refused with this reason, and the message names the field.
#[track_caller]
fn check(reason: ErrorReason, field: &str, change: impl FnOnce(&mut v1::LockRequest)) {
    let mut request = plain();
    change(&mut request);
    let failure = lock_request(request, &Limits::default()).expect_err(field);
    assert_eq!(failure.reason, reason, "{}", failure.message);
    assert!(failure.message.starts_with(field), "{}", failure.message);
}

/// Goal: what was left out has the documented default.
#[test]
fn defaults() {
    let request = lock_request(plain(), &Limits::default()).expect("valid");
    assert_eq!(request.terms.mode, Mode::Exclusive);
    assert_eq!(request.ttl, Duration::from_secs(30));
    assert_eq!(request.terms.wait_timeout, None);
    assert_eq!(request.terms.on_disconnect, OnDisconnect::Release);
    let grace = v1::LockRequest {
        on_disconnect: v1::OnDisconnect::Grace.into(),
        ..plain()
    };
    let request = lock_request(grace, &Limits::default()).expect("valid");
    assert_eq!(
        request.terms.on_disconnect,
        OnDisconnect::Grace(Duration::from_secs(10))
    );
}

/// Goal: names are bounded in bytes, and hold no control characters.
#[test]
fn names() {
    check(ErrorReason::InvalidKey, "key: missing", |request| request.key.clear());
    check(
        ErrorReason::InvalidKey,
        "key: 513 bytes, the limit is 1 to 512",
        |request| request.key = "k".repeat(513),
    );
    check(
        ErrorReason::InvalidKey,
        "key: control character U+000A at byte 1",
        |request| request.key = "a\nb".into(),
    );
    check(ErrorReason::InvalidKey, "key: control character U+0085", |request| {
        request.key = "\u{85}".into()
    });
    check(ErrorReason::InvalidOwner, "owner: missing", |request| {
        request.owner.clear()
    });
    check(ErrorReason::InvalidOwner, "owner: 257", |request| {
        request.owner = "o".repeat(257)
    });
    let longest = v1::LockRequest {
        key: "\u{e9}".repeat(256),
        owner: "o".repeat(256),
        ..plain()
    };
    lock_request(longest, &Limits::default()).expect("as long as may be");
}

/// Goal: durations are never negative, never overflow, and stay in their range.
#[test]
fn durations() {
    for ttl in [
        wire(0, 0),
        wire(-1, 0),
        wire(0, -1),
        wire(0, 99_999_999),
        wire(86_400, 1),
        wire(1, 1_000_000_000),
    ] {
        check(ErrorReason::InvalidTtl, "ttl: ", |request| request.ttl = ttl);
    }
    check(ErrorReason::InvalidTtl, "ttl: ", |request| {
        request.ttl = wire(i64::MAX, i32::MAX)
    });
    check(ErrorReason::InvalidTtl, "ttl: ", |request| {
        request.ttl = wire(i64::MIN, i32::MIN)
    });
    check(ErrorReason::InvalidWaitTimeout, "wait_timeout: ", |request| {
        request.wait_timeout = wire(-1, 0)
    });
    check(ErrorReason::InvalidLockDelay, "lock_delay: ", |request| {
        request.lock_delay = wire(60, 1)
    });
    check(ErrorReason::InvalidMaxHold, "max_hold: ", |request| {
        request.max_hold = wire(0, 0)
    });
    check(ErrorReason::InvalidGrace, "grace: given", |request| {
        request.grace = wire(1, 0)
    });
    check(ErrorReason::InvalidGrace, "grace: ", |request| {
        request.on_disconnect = v1::OnDisconnect::Grace.into();
        request.grace = wire(3_600, 1);
    });
    let edges = v1::LockRequest {
        ttl: wire(0, 100_000_000),
        max_hold: wire(86_400, 0),
        lock_delay: wire(60, 0),
        wait_timeout: wire(i64::MAX, 999_999_999),
        ..plain()
    };
    lock_request(edges, &Limits::default()).expect("all within their ranges");
}

/// Goal: unknown values of every enum are refused.
#[test]
fn enums() {
    check(ErrorReason::InvalidMode, "mode: 9", |request| request.mode = 9);
    check(ErrorReason::InvalidOnDisconnect, "on_disconnect: -1", |request| {
        request.on_disconnect = -1
    });
    check(ErrorReason::InvalidSameOwner, "same_owner: 4", |request| {
        request.same_owner = 4
    });
    check(ErrorReason::InvalidAttach, "attach.mode: 3", |request| {
        request.attach = Some(v1::Attach { number: 0, mode: 3 });
    });
    check(ErrorReason::Unimplemented, "detect_deadlock", |request| {
        request.detect_deadlock = true
    });
}

/// Goal: permits go with their mode alone, and never exceed the capacity.
#[test]
fn permits() {
    for (permits, capacity) in [(0, 1), (1, 0), (2, 1), (1, 1_000_001)] {
        check(
            ErrorReason::InvalidPermits,
            if capacity == 1 { "permits" } else { "capacity" },
            |request| {
                request.mode = v1::LockMode::Permits.into();
                (request.permits, request.capacity) = (permits, capacity);
            },
        );
    }
    check(ErrorReason::InvalidPermits, "permits: 1", |request| request.permits = 1);
    check(ErrorReason::InvalidPermits, "capacity: 1", |request| {
        request.capacity = 1
    });
    let most = v1::LockRequest {
        mode: v1::LockMode::Permits.into(),
        permits: 1_000_000,
        capacity: 1_000_000,
        ..plain()
    };
    lock_request(most, &Limits::default()).expect("as many as may be");
}

/// Goal: ids have their length, and metadata its bound.
#[test]
fn ids_and_metadata() {
    check(ErrorReason::InvalidRequestId, "request_id: 15", |request| {
        request.request_id = vec![0; 15]
    });
    check(ErrorReason::InvalidRequestId, "request_id: 17", |request| {
        request.request_id = vec![0; 17]
    });
    check(ErrorReason::InvalidMetadata, "metadata: 1025", |request| {
        request.metadata.insert("n".into(), "v".repeat(1024));
    });
}

/// Goal: an unlock names something, says no LOST, and keeps its note short; a renewal has items.
#[test]
fn unlock_and_renew() {
    let limits = Limits::default();
    let unlock = v1::UnlockRequest {
        key: "k".into(),
        owner: "o".into(),
        ..v1::UnlockRequest::default()
    };
    assert_eq!(
        unlock_request(unlock.clone(), &limits)
            .expect_err("names nothing")
            .reason,
        ErrorReason::InvalidToken
    );
    let large = v1::UnlockRequest {
        fencing_token: 1 << 53,
        ..unlock.clone()
    };
    assert_eq!(
        unlock_request(large, &limits).expect_err("too large").reason,
        ErrorReason::InvalidToken
    );
    for (status, note) in [(3, 0), (4, 0), (0, 257)] {
        let outcome = Some(v1::Outcome {
            status,
            note: "n".repeat(note),
        });
        let request = v1::UnlockRequest {
            fencing_token: 1,
            outcome,
            ..unlock.clone()
        };
        assert_eq!(
            unlock_request(request, &limits).expect_err("refused").reason,
            ErrorReason::InvalidOutcome
        );
    }
    for count in [0, 1_001] {
        let items = vec![
            v1::RenewItem {
                key: "k".into(),
                fencing_token: 1,
                ttl: None
            };
            count
        ];
        let request = v1::RenewRequest {
            owner: "o".into(),
            items,
        };
        assert_eq!(
            renew_request(request, &limits).err().expect("refused").reason,
            ErrorReason::InvalidItems
        );
    }
}

/// Goal: a page token comes back as its key, and what this server never gave is refused.
#[test]
fn pages() {
    let limits = Limits::default();
    for key in ["a", "a/b c", "\u{e9}\u{10ffff}"] {
        let token = to_page_token(key);
        assert_eq!(page_token(&token, &limits).expect("own token").as_deref(), Some(key));
    }
    assert_eq!(page_token("", &limits).expect("the beginning"), None);
    for wrong in ["a", "zz", "ff", "+1", "\u{e9}"] {
        assert_eq!(
            page_token(wrong, &limits).expect_err(wrong).reason,
            ErrorReason::InvalidPage
        );
    }
    assert_eq!(page("page_size", 0, 100, &limits), Ok(100));
    assert_eq!(page("page_size", 1_000, 100, &limits), Ok(1_000));
    assert_eq!(
        page("page_size", 1_001, 100, &limits).expect_err("too many").reason,
        ErrorReason::InvalidPage
    );
}

//! Requests that are wrong in themselves, sent over a real socket: each is refused by its reason, and leaves nothing.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use bytes::{Buf as _, BufMut as _, Bytes};
use support::{check, config, granted, lock, request, start_server, unlock, wire};
use ticketlock::grpc::ErrorReason;
use ticketlock_proto::v1;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

/// A change of a request, and the reason why it is refused then.
type Row = (ErrorReason, fn(&mut v1::LockRequest));

/// What can be wrong with a `Lock`.
const INVALID: &[Row] = &[
    (ErrorReason::InvalidKey, |request| request.key.clear()),
    (ErrorReason::InvalidKey, |request| request.key = "k".repeat(513)),
    (ErrorReason::InvalidKey, |request| request.key = "a\0b".into()),
    (ErrorReason::InvalidKey, |request| request.key = "a\nb".into()),
    (ErrorReason::InvalidOwner, |request| request.owner.clear()),
    (ErrorReason::InvalidOwner, |request| request.owner = "o".repeat(257)),
    (ErrorReason::InvalidRequestId, |request| {
        request.request_id = vec![1; 15]
    }),
    (ErrorReason::InvalidRequestId, |request| {
        request.request_id = vec![1; 17]
    }),
    (ErrorReason::InvalidAttach, |request| {
        request.attach = Some(v1::Attach { number: 1, mode: 77 })
    }),
    (ErrorReason::InvalidMode, |request| request.mode = 77),
    (ErrorReason::InvalidMode, |request| request.mode = -1),
    (ErrorReason::InvalidPermits, |request| request.permits = 1),
    (ErrorReason::InvalidPermits, |request| {
        request.mode = v1::LockMode::Permits.into()
    }),
    (ErrorReason::InvalidPermits, |request| {
        request.mode = v1::LockMode::Permits.into();
        (request.permits, request.capacity) = (2, 1);
    }),
    (ErrorReason::InvalidPermits, |request| {
        request.mode = v1::LockMode::Permits.into();
        (request.permits, request.capacity) = (1, u32::MAX);
    }),
    (ErrorReason::InvalidTtl, |request| request.ttl = wire(0, 0)),
    (ErrorReason::InvalidTtl, |request| request.ttl = wire(-1, 0)),
    (ErrorReason::InvalidTtl, |request| request.ttl = wire(0, -5)),
    (ErrorReason::InvalidTtl, |request| request.ttl = wire(1, i32::MAX)),
    (ErrorReason::InvalidTtl, |request| request.ttl = wire(i64::MAX, 0)),
    (ErrorReason::InvalidTtl, |request| {
        request.ttl = wire(i64::MIN, i32::MIN)
    }),
    (ErrorReason::InvalidTtl, |request| request.ttl = wire(86_401, 0)),
    (ErrorReason::InvalidWaitTimeout, |request| {
        request.wait_timeout = wire(-1, 0)
    }),
    (ErrorReason::InvalidOnDisconnect, |request| request.on_disconnect = 77),
    (ErrorReason::InvalidGrace, |request| request.grace = wire(1, 0)),
    (ErrorReason::InvalidGrace, |request| {
        request.on_disconnect = v1::OnDisconnect::Grace.into();
        request.grace = wire(3_601, 0);
    }),
    (ErrorReason::InvalidSameOwner, |request| request.same_owner = 77),
    (ErrorReason::InvalidLockDelay, |request| {
        request.lock_delay = wire(61, 0)
    }),
    (ErrorReason::InvalidMaxHold, |request| request.max_hold = wire(0, 0)),
    (ErrorReason::InvalidMetadata, |request| {
        request.metadata.insert("name".into(), "v".repeat(2_000));
    }),
    (ErrorReason::MessageTooLarge, |request| {
        request.metadata.insert("name".into(), "v".repeat(70_000));
    }),
    (ErrorReason::Unimplemented, |request| request.detect_deadlock = true),
];

/// Goal: whatever is wrong with a `Lock` is told by its reason, and leaves no ticket behind.
#[tokio::test]
async fn invalid_lock_requests() {
    let server = start_server(config(|_| {})).await;
    let mut locks = server.locks().await;
    for (expected, change) in INVALID {
        let mut request = request("k", "o");
        change(&mut request);
        check(lock(&mut locks, request).await, *expected);
    }
    server.until_empty().await;
    let mut stream = lock(&mut locks, request("k", "o")).await.expect("still serves");
    granted(&mut stream).await;
}

/// Goal: the other calls check their fields, too.
#[tokio::test]
async fn invalid_other_requests() {
    let server = start_server(config(|_| {})).await;
    let mut locks = server.locks().await;
    let attempt = v1::TryLockRequest {
        key: "k".into(),
        owner: "o".into(),
        ttl: wire(0, 1),
        ..Default::default()
    };
    check(locks.try_lock(attempt).await, ErrorReason::InvalidTtl);
    check(locks.unlock(unlock("k", "o", 0)).await, ErrorReason::InvalidToken);
    check(
        locks.unlock(unlock("k", "o", u64::MAX)).await,
        ErrorReason::InvalidToken,
    );
    let status = v1::OutcomeStatus::Lost.into();
    let outcome = Some(v1::Outcome {
        status,
        note: String::new(),
    });
    check(
        locks
            .unlock(v1::UnlockRequest {
                outcome,
                ..unlock("k", "o", 1)
            })
            .await,
        ErrorReason::InvalidOutcome,
    );
    let outcome = Some(v1::Outcome {
        status: 0,
        note: "n".repeat(257),
    });
    check(
        locks
            .unlock(v1::UnlockRequest {
                outcome,
                ..unlock("k", "o", 1)
            })
            .await,
        ErrorReason::InvalidOutcome,
    );
    let renewal = v1::RenewRequest {
        owner: "o".into(),
        items: Vec::new(),
    };
    check(locks.renew(renewal).await, ErrorReason::InvalidItems);
    let page = v1::ListLocksRequest {
        page_size: 1_001,
        ..Default::default()
    };
    check(locks.list_locks(page).await, ErrorReason::InvalidPage);
    let page = v1::ListLocksRequest {
        page_token: "not hex".into(),
        ..Default::default()
    };
    check(locks.list_locks(page).await, ErrorReason::InvalidPage);
    let watch = v1::WatchLocksRequest {
        prefix: "p".repeat(513),
    };
    check(locks.watch_locks(watch).await, ErrorReason::InvalidPrefix);
    check(
        locks.get_lock(v1::GetLockRequest::default()).await,
        ErrorReason::InvalidKey,
    );
    for (key, fencing_token, expected) in [
        ("", 1, ErrorReason::InvalidKey),
        ("k", 0, ErrorReason::InvalidToken),
        ("k", 1 << 53, ErrorReason::InvalidToken),
    ] {
        let key = key.to_owned();
        check(
            locks.check_token(v1::CheckTokenRequest { key, fencing_token }).await,
            expected,
        );
    }
    let drain = v1::DrainRequest {
        by: "b".repeat(257),
        ..v1::DrainRequest::default()
    };
    check(server.admin().await.drain(drain).await, ErrorReason::InvalidReason);
    let force = v1::ForceUnlockRequest {
        key: "k".into(),
        fencing_token: 1,
        ..Default::default()
    };
    check(
        server.admin().await.force_unlock(force).await,
        ErrorReason::InvalidReason,
    );
    server.until_empty().await;
}

/// Goal: a renewal's ttl out of range is the answer for its item alone.
#[tokio::test]
async fn a_renewal_with_an_invalid_ttl_is_data() {
    let server = start_server(config(|_| {})).await;
    let mut locks = server.locks().await;
    let mut stream = lock(&mut locks, request("k", "o")).await.expect("taken");
    let token = granted(&mut stream).await.fencing_token;
    let item = |ttl, fencing_token| v1::RenewItem {
        key: "k".into(),
        fencing_token,
        ttl,
    };
    let items = vec![item(wire(0, 0), token), item(None, token), item(None, 1)];
    let answer = locks
        .renew(v1::RenewRequest {
            owner: "o".into(),
            items,
        })
        .await
        .expect("data")
        .into_inner();
    let statuses: Vec<_> = answer.results.iter().map(v1::RenewResult::status).collect();
    let expected = [
        v1::RenewStatus::InvalidTtl,
        v1::RenewStatus::Renewed,
        v1::RenewStatus::NotHeld,
    ];
    assert_eq!(statuses, expected);
}

/// Bytes as they are, to send what no stub would.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Sends these bytes to this call.
async fn send(server: &support::TestServer, path: &'static str, bytes: &'static [u8]) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(Request::new(Bytes::from_static(bytes)), path, Raw)
        .await
        .map(drop)
}

/// Goal: bytes that are no message, a key that is no UTF-8, and a call that does not exist are told apart.
#[tokio::test]
async fn raw_bytes() {
    const GET: &str = "/ticketlock.v1.LockService/GetLock";
    const LOCK: &str = "/ticketlock.v1.LockService/Lock";
    let server = start_server(config(|_| {})).await;
    // Field 1 (the key), two bytes that are no UTF-8.
    check(
        send(&server, GET, &[0x0a, 0x02, 0xff, 0xfe]).await,
        ErrorReason::InvalidKey,
    );
    check(
        send(&server, LOCK, &[0x0a, 0x02, 0xff, 0xfe]).await,
        ErrorReason::InvalidKey,
    );
    // Field 2 (the owner), the same.
    check(
        send(&server, LOCK, &[0x12, 0x02, 0xff, 0xfe]).await,
        ErrorReason::MalformedRequest,
    );
    // A key that is longer than the message, a tag without an end, and a wire type that does not exist.
    check(send(&server, GET, &[0x0a, 0x7f, 0x61]).await, ErrorReason::InvalidKey);
    check(send(&server, GET, &[0xff]).await, ErrorReason::MalformedRequest);
    check(send(&server, GET, &[0x0f]).await, ErrorReason::MalformedRequest);
    check(
        send(&server, "/ticketlock.v1.LockService/Steal", &[]).await,
        ErrorReason::Unimplemented,
    );
    check(
        send(&server, "/nobody.Nothing/Never", &[]).await,
        ErrorReason::Unimplemented,
    );
    server.until_empty().await;
}

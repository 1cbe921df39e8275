//! Bytes as each request of the API: decoded, converted, and what is accepted given to a shard.

use std::ops::RangeInclusive;
use std::time::Duration;

use prost::Message;
use ticketlock::config::Limits;
use ticketlock::grpc::convert::{self, RenewItem};
use ticketlock::grpc::status::Failure;
use ticketlock_core::command::{Command, LockRequest, Renew, Unlock};
use ticketlock_core::record::Records;
use ticketlock_core::types::{Mode, Number, OnDisconnect, Stream, StreamId, StreamKind, Time};
use ticketlock_core::{Config, Output, Shard};
use ticketlock_proto::v1::{self, session_call::Call};
use tonic::{Code, Status};

/// Tickets and tokens stay below it.
const NUMBER_END: Number = 1 << 53;
/// Bound: a refusal repeats nothing long.
const MESSAGE_BYTES_MAX: usize = 256;
/// All commands come at one instant.
const NOW: Time = Time(1_000_000_000);

/// The same bytes as every request that there is.
pub(crate) fn run(bytes: &[u8]) {
    let mut edge = Edge::new();
    decoded(bytes, |it| edge.lock(it));
    decoded(bytes, |it| edge.try_lock(it));
    decoded(bytes, |it| edge.unlock(it));
    decoded(bytes, |it| edge.renew(&it));
    decoded(bytes, |it| edge.get(&it));
    decoded(bytes, |it| edge.list(&it));
    decoded(bytes, |it: v1::WatchLocksRequest| edge.prefix(&it.prefix));
    decoded(bytes, |it| edge.session(it));
    decoded(bytes, |it| edge.force(&it));
    decoded(bytes, |_: v1::GetServerInfoRequest| {});
    decoded(bytes, |_: v1::BackupRequest| {});
}

/// Hands on what can be decoded; encoded, it is the same again.
fn decoded<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8], take: impl FnOnce(M)) {
    let Ok(message) = M::decode(bytes) else { return };
    let again = M::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message), "encoded, it is another message");
    take(message);
}

/// The edge of a server: its limits, and a shard for what passes them.
struct Edge {
    limits: Limits,
    shard: Shard,
}

impl Edge {
    fn new() -> Self {
        Self {
            limits: Limits::default(),
            shard: Shard::recover(Config::default(), Records::default(), NOW),
        }
    }

    fn apply(&mut self, command: Command) {
        self.shard.apply(command, NOW, &mut Output::default());
        self.shard.check();
    }

    fn lock(&mut self, request: v1::LockRequest) {
        let accepted = accepted(convert::lock_request(request, &self.limits));
        self.apply_lock(accepted, StreamKind::Plain);
    }

    fn apply_lock(&mut self, request: Option<LockRequest>, kind: StreamKind) {
        let Some(mut request) = request else { return };
        self.check_lock(&request);
        let id = StreamId(1);
        request.stream = Some(Stream { id, kind });
        self.apply(Command::Lock(Box::new(request)));
    }

    fn try_lock(&mut self, request: v1::TryLockRequest) {
        let Some(request) = accepted(convert::try_lock_request(request, &self.limits)) else {
            return;
        };
        self.check_lock(&request);
        assert_eq!(request.terms.wait_timeout, Some(Duration::ZERO), "a try never waits");
        self.apply(Command::TryLock(Box::new(request)));
    }

    fn unlock(&mut self, request: v1::UnlockRequest) {
        let accepted = accepted(convert::unlock_request(request, &self.limits));
        self.apply_unlock(accepted);
    }

    fn apply_unlock(&mut self, unlock: Option<Unlock>) {
        let Some(unlock) = unlock else { return };
        self.check_name("key", &unlock.key, self.limits.key_bytes_max);
        assert!(
            unlock.token.is_some() || unlock.request_id.is_some(),
            "it names nothing"
        );
        assert!(unlock.token.is_none_or(is_token), "no token: {:?}", unlock.token);
        assert!(unlock.outcome.note.len() <= self.limits.note_bytes_max, "a long note");
        self.apply(Command::Unlock(unlock));
    }

    fn renew(&mut self, request: &v1::RenewRequest) {
        let Some(items) = accepted(convert::renew_request(request.clone(), &self.limits)) else {
            return;
        };
        assert_eq!(items.len(), request.items.len(), "one answer per item");
        items.into_iter().for_each(|item| self.apply_renew(item));
    }

    fn apply_renew(&mut self, item: RenewItem) {
        let RenewItem::Checked(renew) = item else { return };
        let Renew { key, token, ttl, .. } = &renew;
        self.check_name("key", key, self.limits.key_bytes_max);
        assert!(is_token(*token), "no token: {token}");
        check_span("ttl", *ttl, self.limits.ttl_min..=self.limits.ttl_max);
        self.apply(Command::Refresh(renew.clone()));
        self.apply(Command::Renew(renew));
    }

    fn get(&self, request: &v1::GetLockRequest) {
        accepted(convert::key(&request.key, &self.limits));
        self.page("waiters_limit", request.waiters_limit);
    }

    fn list(&self, request: &v1::ListLocksRequest) {
        self.prefix(&request.prefix);
        self.page("page_size", request.page_size);
        self.page("waiters_limit", request.waiters_limit);
        if let Some(Some(after)) = accepted(convert::page_token(&request.page_token, &self.limits)) {
            assert!(after.len() <= self.limits.key_bytes_max, "it goes on after no key");
        }
    }

    fn page(&self, field: &'static str, value: u32) {
        let size = accepted(convert::page(field, value, self.limits.page_default, &self.limits));
        assert!(
            size.is_none_or(|size| (1..=self.limits.page_max).contains(&size)),
            "{field}"
        );
    }

    fn prefix(&self, prefix: &str) {
        accepted(convert::prefix(prefix, &self.limits));
    }

    fn session(&mut self, request: v1::SessionRequest) {
        let hello = request.hello.unwrap_or_default();
        let Some(owner) = accepted(convert::owner(&hello.owner, &self.limits)) else {
            return;
        };
        for call in request.calls {
            match call.call {
                Some(Call::Lock(request)) => {
                    let accepted = accepted(convert::lock_request_of(owner.clone(), request, &self.limits));
                    self.apply_lock(accepted, StreamKind::Session);
                }
                Some(Call::Unlock(request)) => {
                    let accepted = accepted(convert::unlock_request_of(owner.clone(), request, &self.limits));
                    self.apply_unlock(accepted);
                }
                Some(Call::Renew(item)) => {
                    if let Some(item) = accepted(convert::renew_item(&owner, &item, &self.limits)) {
                        self.apply_renew(item);
                    }
                }
                Some(Call::Get(request)) => self.get(&request),
                Some(Call::List(request)) => self.list(&request),
                None => {}
            }
        }
    }

    fn force(&mut self, request: &v1::ForceUnlockRequest) {
        let Some(force) = accepted(convert::force_request(request, &self.limits)) else {
            return;
        };
        self.check_name("reason", &force.reason, self.limits.reason_bytes_max);
        assert!(force.by.len() <= self.limits.reason_bytes_max, "a long name");
        assert!(is_token(force.token), "no token: {}", force.token);
        self.apply(Command::ForceUnlock {
            key: force.key,
            token: force.token,
            by: force.by,
            message: force.reason,
        });
    }

    fn check_lock(&self, request: &LockRequest) {
        let (terms, limits) = (&request.terms, &self.limits);
        self.check_name("key", &terms.key, limits.key_bytes_max);
        self.check_name("owner", &terms.owner, limits.owner_bytes_max);
        if let Mode::Permits { permits, capacity } = terms.mode {
            let sound = (1..=capacity).contains(&permits) && capacity <= limits.permits_max;
            assert!(sound, "{permits} of {capacity}");
        }
        let lease = limits.ttl_min..=limits.ttl_max;
        check_span("ttl", Some(request.ttl), lease.clone());
        check_span("max_hold", terms.max_hold, lease);
        check_span(
            "lock_delay",
            Some(terms.lock_delay),
            Duration::ZERO..=limits.lock_delay_max,
        );
        if let OnDisconnect::Grace(grace) = terms.on_disconnect {
            check_span("grace", Some(grace), Duration::ZERO..=limits.grace_max);
        }
        let bytes: usize = terms
            .metadata
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(bytes <= limits.metadata_bytes_max, "{bytes} bytes of metadata");
        let names = terms.metadata.iter().map(|(name, _)| name);
        assert!(names.is_sorted(), "a hash map's order can be seen");
    }

    fn check_name(&self, what: &str, name: &str, bytes_max: usize) {
        assert!((1..=bytes_max).contains(&name.len()), "{what} of {} bytes", name.len());
        assert!(!name.chars().any(char::is_control), "{what} {name:?}");
    }
}

fn check_span(what: &str, span: Option<Duration>, range: RangeInclusive<Duration>) {
    assert!(span.is_none_or(|span| range.contains(&span)), "{what}: {span:?}");
}

fn is_token(token: Number) -> bool {
    (1..NUMBER_END).contains(&token)
}

/// What was accepted. A refusal blames the caller, names the field, and keeps it short.
fn accepted<T>(result: Result<T, Failure>) -> Option<T> {
    let failure = match result {
        Ok(accepted) => return Some(accepted),
        Err(failure) => failure,
    };
    let field = failure.metadata.iter().find(|(name, _)| *name == "field");
    let named = field.is_some_and(|(_, field)| failure.message.starts_with(field.as_str()));
    assert!(named && failure.message.len() <= MESSAGE_BYTES_MAX, "{failure:?}");
    let status = Status::from(failure);
    let blamed = matches!(status.code(), Code::InvalidArgument | Code::Unimplemented);
    assert!(blamed, "{status:?}");
    None
}

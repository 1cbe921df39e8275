//! How a lock is asked for: the builders, and the futures that they turn into.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_proto::v1;

use crate::client::{DEFAULT_ON_DISCONNECT, Inner};
use crate::convert;
use crate::guard::{Guard, Hold};
use crate::types::{Mode, OnDisconnect, Queued, SameOwner};
use crate::{Error, driver, session};

/// Called for each news about the place in line.
pub(crate) type OnQueued = Arc<dyn Fn(Queued) + Send + Sync>;

/// Called when the way to the server breaks during the wait.
pub(crate) type OnSuspended = Arc<dyn Fn() + Send + Sync>;

/// What a lock or a try asks for.
#[derive(Clone)]
pub(crate) struct Ask {
    pub key: String,
    pub owner: String,
    pub request_id: [u8; 16],
    pub mode: Mode,
    pub ttl: Option<Duration>,
    pub wait: Option<Duration>,
    pub on_disconnect: OnDisconnect,
    pub same_owner: SameOwner,
    pub lock_delay: Duration,
    pub max_hold: Option<Duration>,
    pub metadata: BTreeMap<String, String>,
    pub on_queued: Option<OnQueued>,
    pub on_suspended: Option<OnSuspended>,
    pub tell_contention: bool,
}

/// A wait that the server knew of is taken up again for so long. A server that restarts keeps the places of those whose
/// streams it ended for its recovery grace, 10 s by default, whatever their `on_disconnect`.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(10);

impl Ask {
    /// How long after a cut the same request is repeated: it comes back to its ticket where that is still there, and takes
    /// a new one otherwise.
    pub(crate) fn taken_up_within(&self) -> Duration {
        match self.on_disconnect {
            OnDisconnect::Grace(grace) => grace.max(TAKEN_UP_WITHIN),
            OnDisconnect::Release | OnDisconnect::Lease => TAKEN_UP_WITHIN,
        }
    }

    fn new(inner: &Inner, key: String) -> Self {
        Self {
            key,
            owner: inner.owner.clone(),
            request_id: inner.request_id(),
            mode: Mode::default(),
            ttl: None,
            wait: None,
            on_disconnect: DEFAULT_ON_DISCONNECT,
            same_owner: SameOwner::default(),
            lock_delay: Duration::ZERO,
            max_hold: None,
            metadata: BTreeMap::new(),
            on_queued: None,
            on_suspended: None,
            tell_contention: false,
        }
    }

    /// The message that takes the ticket, or comes back to it.
    pub(crate) fn lock_request(&self, attach: u64, mode: v1::AttachMode) -> v1::LockRequest {
        let (lock_mode, permits, capacity) = convert::to_mode(self.mode);
        let (on_disconnect, grace) = convert::to_on_disconnect(self.on_disconnect);
        v1::LockRequest {
            key: self.key.clone(),
            owner: self.owner.clone(),
            request_id: self.request_id.to_vec(),
            attach: Some(v1::Attach {
                number: attach,
                mode: mode.into(),
            }),
            mode: lock_mode,
            permits,
            capacity,
            ttl: self.ttl.map(convert::to_duration),
            wait_timeout: self.wait.map(convert::to_duration),
            on_disconnect,
            grace,
            same_owner: convert::to_same_owner(self.same_owner),
            detect_deadlock: false,
            lock_delay: self.lock_delay(),
            max_hold: self.max_hold.map(convert::to_duration),
            metadata: convert::to_metadata(&self.metadata),
            events: Some(v1::EventOptions {
                queue_updates: self.on_queued.is_some(),
                contended: self.tell_contention,
                expiring: false,
            }),
        }
    }

    /// The message that tries.
    pub(crate) fn try_request(&self) -> v1::TryLockRequest {
        let (lock_mode, permits, capacity) = convert::to_mode(self.mode);
        v1::TryLockRequest {
            key: self.key.clone(),
            owner: self.owner.clone(),
            request_id: self.request_id.to_vec(),
            mode: lock_mode,
            permits,
            capacity,
            ttl: self.ttl.map(convert::to_duration),
            same_owner: convert::to_same_owner(self.same_owner),
            lock_delay: self.lock_delay(),
            max_hold: self.max_hold.map(convert::to_duration),
            metadata: convert::to_metadata(&self.metadata),
        }
    }

    fn lock_delay(&self) -> Option<prost_types::Duration> {
        (!self.lock_delay.is_zero()).then(|| convert::to_duration(self.lock_delay))
    }
}

/// Asks for a lock, waiting in line; await it. A future that is dropped before its end leaves the line.
#[must_use = "nothing is asked for until it is awaited"]
pub struct LockBuilder {
    inner: Arc<Inner>,
    ask: Ask,
}

/// Asks for a lock at once or not at all; await it.
#[must_use = "nothing is asked for until it is awaited"]
pub struct TryLockBuilder {
    inner: Arc<Inner>,
    ask: Ask,
}

/// What both builders can be told.
macro_rules! shared_options {
    ($builder:ident) => {
        impl fmt::Debug for $builder {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($builder))
                    .field("key", &self.ask.key)
                    .finish_non_exhaustive()
            }
        }

        impl $builder {
            /// Length of the lease, 100 ms to 24 h. Default: the server's, 30 s.
            pub fn ttl(mut self, ttl: Duration) -> Self {
                self.ask.ttl = Some(ttl);
                self
            }

            /// Share the lock with other shared holds.
            pub fn shared(mut self) -> Self {
                self.ask.mode = Mode::Shared;
                self
            }

            /// Take `permits` of the key's `of`.
            pub fn permits(mut self, permits: u32, of: u32) -> Self {
                self.ask.mode = Mode::Permits {
                    permits,
                    capacity: of,
                };
                self
            }

            /// What happens where another request of the same owner holds the key. Default: wait.
            pub fn same_owner(mut self, same_owner: SameOwner) -> Self {
                self.ask.same_owner = same_owner;
                self
            }

            /// How long the key stays barred after this hold was lost abnormally, up to 60 s. Default: not at all.
            pub fn lock_delay(mut self, delay: Duration) -> Self {
                self.ask.lock_delay = delay;
                self
            }

            /// The longest time that the hold may last, however often it is renewed.
            pub fn max_hold(mut self, longest: Duration) -> Self {
                self.ask.max_hold = Some(longest);
                self
            }

            /// Adds a pair that whoever may read the key can see: never a secret. Up to 1 KiB in all.
            pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
                self.ask.metadata.insert(name.into(), value.into());
                self
            }

            /// Names the logical request, so that a repeat in another process comes back to it. Default: random.
            pub fn request_id(mut self, id: [u8; 16]) -> Self {
                self.ask.request_id = id;
                self
            }
        }
    };
}

shared_options!(LockBuilder);
shared_options!(TryLockBuilder);

impl LockBuilder {
    pub(crate) fn new(inner: Arc<Inner>, key: String) -> Self {
        let ask = Ask::new(&inner, key);
        Self { inner, ask }
    }

    /// How long to wait in line. Default: for ever.
    pub fn wait(mut self, longest: Duration) -> Self {
        self.ask.wait = Some(longest);
        self
    }

    /// Do not wait: refused with `WOULD_WAIT` where it had to.
    pub fn no_wait(self) -> Self {
        self.wait(Duration::ZERO)
    }

    /// What becomes of the ticket and the hold when this process, or the way to it, is gone. Default: a grace of 10 s.
    pub fn on_disconnect(mut self, policy: OnDisconnect) -> Self {
        self.ask.on_disconnect = policy;
        self
    }

    /// Has the guard's [`events`](Guard::events) tell how many wait behind it, at most once a second.
    pub fn tell_contention(mut self) -> Self {
        self.ask.tell_contention = true;
        self
    }

    /// Has `callback` told each news about the place in line. It must not block.
    pub fn on_queued(mut self, callback: impl Fn(Queued) + Send + Sync + 'static) -> Self {
        self.ask.on_queued = Some(Arc::new(callback));
        self
    }

    /// Has `callback` told each time that the way to the server breaks during the wait. The request goes on by itself, and
    /// comes back to its place while [`on_disconnect`](Self::on_disconnect) keeps it; a head that is away for more than a
    /// second in all may be overtaken meanwhile. It must not block.
    pub fn on_suspended(mut self, callback: impl Fn() + Send + Sync + 'static) -> Self {
        self.ask.on_suspended = Some(Arc::new(callback));
        self
    }
}

impl TryLockBuilder {
    pub(crate) fn new(inner: Arc<Inner>, key: String) -> Self {
        let mut ask = Ask::new(&inner, key);
        // A try knows no other policy: there is no stream whose end could mean anything.
        ask.on_disconnect = OnDisconnect::Lease;
        Self { inner, ask }
    }
}

/// The future of a lock or a try.
pub type Locking = Pin<Box<dyn Future<Output = Result<Guard, Error>> + Send>>;

impl IntoFuture for LockBuilder {
    type Output = Result<Guard, Error>;
    type IntoFuture = Locking;

    fn into_future(self) -> Locking {
        Box::pin(async move {
            let (hold, granted) = if self.inner.plain_streams {
                driver::start(self.inner, self.ask, driver::Kind::Lock)
            } else {
                session::start(self.inner, self.ask)
            };
            finish(hold, granted).await
        })
    }
}

impl IntoFuture for TryLockBuilder {
    type Output = Result<Guard, Error>;
    type IntoFuture = Locking;

    fn into_future(self) -> Locking {
        Box::pin(async move {
            let (hold, granted) = if self.inner.plain_streams {
                driver::start(self.inner, self.ask, driver::Kind::Try)
            } else {
                // On a session a try is a lock that does not wait.
                let wait = Some(Duration::ZERO);
                session::start(self.inner, Ask { wait, ..self.ask })
            };
            finish(hold, granted).await
        })
    }
}

/// Waits for the driver's word. `hold` gives the lock back if this future is dropped, even with the grant underway.
async fn finish(hold: Hold, granted: driver::Granting) -> Result<Guard, Error> {
    let grant = granted.await.unwrap_or(Err(Error::Closed))?;
    Ok(Guard::new(hold, grant))
}

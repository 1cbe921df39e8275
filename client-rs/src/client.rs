//! The client: how it is built, and what every part of the crate shares.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clock::BootClock;
use crate::driver::Drivers;
use crate::lock::{LockBuilder, TryLockBuilder};
use crate::pool::{Pool, Transport};
use crate::runtime::Background;
use crate::seams::{Clock, Dial, OsRandom, Random};
use crate::session::Hub;
use crate::{Error, OnDisconnect};

/// A connection to a lock server. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("owner", &self.inner.owner)
            .finish_non_exhaustive()
    }
}

/// What a client, its guards and its tickets share.
pub(crate) struct Inner {
    pub pool: Arc<Pool>,
    pub owner: String,
    pub background: Arc<Background>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub transport: Transport,
    pub dial: Option<Dial>,
    pub call_timeout: Duration,
    /// Locks that are being given back, for [`Client::flush`].
    pub leaving: watch::Sender<usize>,
    /// Request ids that nobody has used yet.
    pub ids: Mutex<Vec<[u8; 16]>>,
    /// Each lock has a stream of its own.
    pub plain_streams: bool,
    /// The client's session.
    pub hub: Arc<Hub>,
    /// Locks with a task of their own: tries, and all with plain streams.
    pub drivers: Mutex<Drivers>,
    /// Numbers the streams of this client's requests: the highest is the latest.
    attaches: AtomicU64,
}

impl Inner {
    pub(crate) fn request_id(&self) -> [u8; 16] {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.pop() {
            return id;
        }
        // Many at once: each asking of the system costs as much as the rest of a request.
        let mut bytes = [0; 16 * 256];
        self.random.fill(&mut bytes);
        ids.extend(bytes.as_chunks().0);
        ids.pop().unwrap_or_default()
    }

    pub(crate) fn drivers(&self) -> MutexGuard<'_, Drivers> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number from 0 to 1, for jitter.
    pub(crate) fn fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
    }

    pub(crate) fn next_attach(&self) -> u64 {
        self.attaches.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hub.close();
    }
}

impl Client {
    /// Starts to configure a client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Connects to one endpoint with the defaults.
    ///
    /// # Errors
    /// [`Error::Connect`] if nothing answers there, [`Error::Argument`] if it is no `http://HOST:PORT`.
    pub async fn connect(endpoint: impl Into<String>) -> Result<Self, Error> {
        Self::builder().endpoint(endpoint).connect().await
    }

    /// Who this client says it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.inner.owner
    }

    /// Takes a ticket for `key` and waits in line; await the builder to get the guard.
    ///
    /// ```no_run
    /// # async fn f(client: ticketlock_client::Client) -> Result<(), ticketlock_client::Error> {
    /// use std::time::Duration;
    /// let guard = client.lock("jobs/nightly").ttl(Duration::from_secs(10)).wait(Duration::from_secs(60)).await?;
    /// println!("held with token {}", guard.fencing_token());
    /// guard.unlock(ticketlock_client::Outcome::success()).await?;
    /// # Ok(()) }
    /// ```
    pub fn lock(&self, key: impl Into<String>) -> LockBuilder {
        LockBuilder::new(Arc::clone(&self.inner), key.into())
    }

    /// Takes `key` if it is free and nobody waits; never queues. The hold lives by its lease, which the guard renews.
    ///
    /// ```no_run
    /// # async fn f(client: ticketlock_client::Client) -> Result<(), ticketlock_client::Error> {
    /// match client.try_lock("jobs/nightly").await {
    ///     Ok(guard) => println!("held with token {}", guard.fencing_token()),
    ///     Err(error) if error.reason() == "WOULD_WAIT" => println!("{error}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn try_lock(&self, key: impl Into<String>) -> TryLockBuilder {
        TryLockBuilder::new(Arc::clone(&self.inner), key.into())
    }

    /// Where the server is looked for, in order.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.inner.pool.urls()
    }

    /// Looks for the server there from now on, in this order. An endpoint that is no longer named is left: the session
    /// begins anew elsewhere, and takes up its locks there as after a cut; where that is another store, they are lost, and
    /// told so. Streams of [`plain_streams`](ClientBuilder::plain_streams) go on until they end.
    ///
    /// # Errors
    /// [`Error::Argument`] if one is no `http://HOST:PORT`, or if there is none.
    pub fn set_endpoints<S: Into<String>>(&self, endpoints: impl IntoIterator<Item = S>) -> Result<(), Error> {
        let urls: Vec<String> = endpoints.into_iter().map(Into::into).collect();
        if self.inner.pool.set_urls(&urls)? {
            self.inner.hub.move_on();
        }
        Ok(())
    }

    /// A client for another owner over the same connections. Each of its locks has a stream of its own, as with
    /// [`ClientBuilder::plain_streams`]: it is meant for few locks of many owners. [`close`](Self::close) and
    /// [`flush`](Self::flush) of one of the two do nothing for the other.
    #[must_use]
    pub fn on_behalf_of(&self, owner: impl Into<String>) -> Self {
        let inner = &self.inner;
        Self {
            inner: Arc::new(Inner {
                pool: Arc::clone(&inner.pool),
                owner: owner.into(),
                background: Arc::clone(&inner.background),
                clock: Arc::clone(&inner.clock),
                random: Arc::clone(&inner.random),
                transport: inner.transport.clone(),
                dial: inner.dial.clone(),
                call_timeout: inner.call_timeout,
                leaving: watch::Sender::new(0),
                ids: Mutex::new(Vec::new()),
                plain_streams: true,
                hub: Hub::new(Arc::clone(&inner.clock), Arc::clone(&inner.random)),
                drivers: Mutex::default(),
                attaches: AtomicU64::new(0),
            }),
        }
    }

    /// Waits until every lock whose guard or future was dropped has been given back. Worth awaiting before a program
    /// ends; without it, those of [`OnDisconnect::Release`] go with the connection and the others by grace or lease.
    pub async fn flush(&self) {
        let mut leaving = self.inner.leaving.subscribe();
        // The sender lives in `inner`, so an error cannot happen while `self` does.
        let _ = leaving.wait_for(|count| *count == 0).await;
    }
}

/// Configures a [`Client`].
///
/// ```no_run
/// # async fn f() -> Result<(), ticketlock_client::Error> {
/// let client = ticketlock_client::Client::builder()
///     .endpoints(["http://lock-a:8476", "http://lock-b:8476"])
///     .owner("node-7")
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
pub struct ClientBuilder {
    endpoints: Vec<String>,
    owner: Option<String>,
    transport: Transport,
    call_timeout: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    dial: Option<Dial>,
    handle: Option<Handle>,
    plain_streams: bool,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            owner: None,
            transport: Transport {
                keepalive_interval: Duration::from_secs(10),
                keepalive_timeout: Duration::from_secs(5),
                connect_timeout: Duration::from_secs(5),
            },
            call_timeout: Duration::from_secs(5),
            clock: Arc::new(BootClock),
            random: Arc::new(OsRandom),
            dial: None,
            handle: None,
            plain_streams: false,
        }
    }
}

impl ClientBuilder {
    /// Adds an endpoint, `http://HOST:PORT`. They are tried in order. Default: `http://127.0.0.1:8476`.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Adds several endpoints.
    #[must_use]
    pub fn endpoints<I: IntoIterator<Item = S>, S: Into<String>>(mut self, endpoints: I) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// Who asks: shown to everyone who waits. Default: host name, process id and a random part.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// How long a connection may be silent before it is pinged, and how long the answer may take. Default: 10 s, 5 s.
    #[must_use]
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.transport.keepalive_interval = interval;
        self.transport.keepalive_timeout = timeout;
        self
    }

    /// Bound for one connection attempt. Default: 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport.connect_timeout = timeout;
        self
    }

    /// Bound for one call that does not wait in line. Default: 5 s.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Gives each lock a stream of its own instead of one session for all: for proxies that do not pass long two-way
    /// streams. It costs about ten times as much per lock.
    #[must_use]
    pub fn plain_streams(mut self, plain: bool) -> Self {
        self.plain_streams = plain;
        self
    }

    /// Replaces the clock.
    #[doc(hidden)]
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the source of ids.
    #[doc(hidden)]
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Replaces the way connections are opened.
    #[doc(hidden)]
    #[must_use]
    pub fn dial(mut self, dial: Dial) -> Self {
        self.dial = Some(dial);
        self
    }

    /// Runs the client's tasks there, even on a current-thread runtime.
    #[doc(hidden)]
    #[must_use]
    pub fn runtime(mut self, handle: Handle) -> Self {
        self.handle = Some(handle);
        self
    }

    /// Connects to the first endpoint that answers. Outside a multi-threaded tokio runtime the client starts one
    /// thread of its own, so that it works, and gives locks back, anywhere.
    ///
    /// # Errors
    /// [`Error::Connect`] if no endpoint answers, [`Error::Argument`] if one is malformed.
    pub async fn connect(self) -> Result<Client, Error> {
        let background = Background::choose(self.handle)?;
        let mut urls = self.endpoints;
        if urls.is_empty() {
            urls.push("http://127.0.0.1:8476".to_owned());
        }
        let owner = self.owner.unwrap_or_else(|| default_owner(self.random.as_ref()));
        let (transport, dial) = (self.transport.clone(), self.dial.clone());
        let pool = background
            .run(async move { Pool::connect(&urls, &transport, dial).await })
            .await?;
        Ok(Client {
            inner: Arc::new(Inner {
                pool: Arc::new(pool),
                ids: Mutex::new(Vec::new()),
                plain_streams: self.plain_streams,
                hub: Hub::new(Arc::clone(&self.clock), Arc::clone(&self.random)),
                drivers: Mutex::default(),
                owner,
                background: Arc::new(background),
                clock: self.clock,
                random: self.random,
                transport: self.transport,
                dial: self.dial,
                call_timeout: self.call_timeout,
                leaving: watch::Sender::new(0),
                attaches: AtomicU64::new(0),
            }),
        })
    }
}

/// The policy of a lock that says nothing.
pub(crate) const DEFAULT_ON_DISCONNECT: OnDisconnect = OnDisconnect::Grace(Duration::from_secs(10));

fn default_owner(random: &dyn Random) -> String {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    format!(
        "{}-{}-{:08x}",
        host_name(),
        std::process::id(),
        u32::from_le_bytes(bytes)
    )
}

/// This machine's name, fit to be part of an owner.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname();
    let host = name.nodename().to_string_lossy();
    // A control character would make the owner invalid; so would too long a name.
    host.chars().filter(|it| !it.is_control()).take(64).collect()
}

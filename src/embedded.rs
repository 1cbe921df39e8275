//! The server inside a process: the same rules, records and limits, without a socket.
//!
//! Its clients are the clients of any server; only the way between the two is memory. So tests and single processes get
//! what production has, down to the errors.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ticketlock::Embedded;
//!
//! let engine = Embedded::memory().await?;
//! let client = engine.client().connect().await?;
//! let guard = client.lock("jobs/nightly").await?;
//! assert!(client.try_lock("jobs/nightly").await.is_err());
//! drop(guard);
//! engine.stop().await;
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ticketlock_client::backend::{Backend, BackendConfig, BackendType, Backends, BoxFuture};
use ticketlock_client::seams::{Dial, Io};
use ticketlock_client::{Client, ClientBuilder, Error};
use ticketlock_core::sharding::ShardCount;
use tokio::io::DuplexStream;
use tokio::sync::{Mutex, mpsc, watch};

use crate::config::ServerConfig;
use crate::grpc::{Listen, ServeError, Server};
use crate::service::{IdSource, unix_seconds};
use crate::store::file::OpenError;
use crate::store::{FileStore, MemoryStore, Store};

/// Bound: bytes between a client and the engine that nobody has read yet.
const PIPE_BYTES: usize = 256 * 1024;

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The service does not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// An engine that runs in the current tokio runtime, until it is stopped, or it and all its clients are gone.
#[derive(Clone)]
pub struct Embedded {
    /// Opens a connection; keeps the engine alive.
    dial: Dial,
    engine: Arc<Engine>,
}

struct Engine {
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Embedded {
    /// With a memory store: everything is gone with the engine.
    ///
    /// # Errors
    /// Where the service does not start.
    pub async fn memory() -> Result<Self, EmbeddedError> {
        let (config, ids) = (config(), IdSource::system());
        let store = MemoryStore::new(ids.draw_id(), config.shards, unix_seconds());
        Self::start(Arc::new(store), config, ids, std::future::pending()).await
    }

    /// With the file store in this directory: what was acknowledged is there again after a crash. One process at a time has
    /// a directory.
    ///
    /// # Errors
    /// Where the directory cannot be used, or the service does not start.
    pub async fn file(dir: &Path) -> Result<Self, EmbeddedError> {
        let (config, ids) = (config(), IdSource::system());
        let store = FileStore::open(dir, ids.draw_id(), config.shards, unix_seconds())?;
        let failed = store.failed();
        Self::start(Arc::new(store), config, ids, failed).await
    }

    /// With any store, which has so many shards.
    ///
    /// # Errors
    /// Where the service does not start.
    pub async fn on_store(store: Arc<dyn Store>, shards: ShardCount) -> Result<Self, EmbeddedError> {
        let config = ServerConfig { shards, ..config() };
        Self::start(store, config, IdSource::system(), std::future::pending()).await
    }

    /// `failed` resolves when the store can do nothing more: then the engine ends.
    async fn start(
        store: Arc<dyn Store>,
        config: ServerConfig,
        ids: IdSource,
        failed: impl Future<Output = String> + Send + 'static,
    ) -> Result<Self, EmbeddedError> {
        let server = Server::start(store, config, ids).await?;
        let (connect, connections) = mpsc::unbounded_channel();
        let (stop, mut wish) = watch::channel(false);
        let (done, stopped) = watch::channel(false);
        tokio::spawn(async move {
            // An error means that nobody has it any more.
            let shutdown = async move { drop(wish.wait_for(|stop| *stop).await) };
            tokio::select! {
                biased;
                why = failed => tracing::error!(why, "the embedded store failed: its locks are gone until it is opened again"),
                ended = server.run(Pipes(connections), None, shutdown) => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the embedded engine ended");
                    }
                }
            }
            done.send_replace(true);
        });
        let engine = Arc::new(Engine { stop, stopped });
        let alive = Arc::clone(&engine);
        let dial: Dial = Arc::new(move |_, _| {
            let _alive = &alive;
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            let connected = connect.send(far).map(|()| Box::new(near) as Box<dyn Io>);
            let ended = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the embedded engine has ended");
            Box::pin(std::future::ready(connected.map_err(ended)))
        });
        Ok(Self { dial, engine })
    }

    /// Configures a client of this engine; endpoints mean nothing to it.
    #[must_use]
    pub fn client(&self) -> ClientBuilder {
        Client::builder()
            .endpoint("http://embedded:8476")
            .dial(Arc::clone(&self.dial))
    }

    /// Whether it has ended: stopped, failed, or gone with its runtime.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let stopped = &self.engine.stopped;
        *stopped.borrow() || stopped.has_changed().is_err()
    }

    /// Ends as a server does that is told to: what is under way is answered, and clients are told.
    pub async fn stop(&self) {
        self.engine.stop.send_replace(true);
        // An error means that the task is gone, with its runtime.
        let _ = self.engine.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

/// What an engine needs: no pages, and no counters that nobody reads.
fn config() -> ServerConfig {
    ServerConfig {
        http: None,
        metrics: false,
        ..ServerConfig::default()
    }
}

/// Connections that are pipes.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listen for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(pipe) => Ok(pipe),
            // Everybody who could connect is gone; the engine is about to be told.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "an embedded engine has no address",
        ))
    }
}

/// Adds `memory`, `embedded` and `file` to what a configuration can name. Everybody who uses the same `backends` has the
/// same memory, and the same engine for a directory.
#[must_use]
pub fn register(backends: Backends) -> Backends {
    let memory: Arc<dyn Backend> = Arc::new(InProcess::default());
    backends
        .with(BackendType::Memory.as_str(), Arc::clone(&memory))
        .with(BackendType::Embedded.as_str(), memory)
        .with(BackendType::File.as_str(), Arc::new(InDirectory::default()))
}

#[derive(Default)]
struct InProcess {
    engine: Mutex<Option<Embedded>>,
}

impl Backend for InProcess {
    fn connect<'a>(&'a self, config: &'a BackendConfig) -> BoxFuture<'a, Result<Client, Error>> {
        Box::pin(async move {
            let mut engine = self.engine.lock().await;
            let engine = match engine.take_if(|it| it.is_over()) {
                None if engine.is_some() => engine.as_ref(),
                _ => Some(&*engine.insert(Embedded::memory().await.map_err(cannot)?)),
            };
            let engine = engine.ok_or(Error::Closed)?;
            named(engine.client(), config).connect().await
        })
    }
}

#[derive(Default)]
struct InDirectory {
    engines: Mutex<BTreeMap<PathBuf, Embedded>>,
}

impl Backend for InDirectory {
    fn connect<'a>(&'a self, config: &'a BackendConfig) -> BoxFuture<'a, Result<Client, Error>> {
        Box::pin(async move {
            let missing = || Error::Argument("dir: the file backend needs a directory".to_owned());
            let dir = config.dir.as_ref().ok_or_else(missing)?;
            let mut engines = self.engines.lock().await;
            let name = std::path::absolute(dir).map_err(|error| Error::Argument(format!("dir: {error}")))?;
            engines.retain(|_, engine| !engine.is_over());
            if !engines.contains_key(&name) {
                let engine = Embedded::file(dir).await.map_err(cannot)?;
                engines.insert(name.clone(), engine);
            }
            let engine = engines.get(&name).ok_or(Error::Closed)?;
            named(engine.client(), config).connect().await
        })
    }
}

fn named(builder: ClientBuilder, config: &BackendConfig) -> ClientBuilder {
    match &config.owner {
        Some(owner) => builder.owner(owner),
        None => builder,
    }
}

fn cannot(error: EmbeddedError) -> Error {
    Error::Argument(format!("cannot start the engine: {error}"))
}

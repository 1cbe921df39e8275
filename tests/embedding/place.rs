//! Where a story plays: a backend, and how to get there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use ticketlock::ServerConfig;
use ticketlock::embedded;
use ticketlock::grpc::Server;
use ticketlock::service::{IdSource, Service, unix_seconds};
use ticketlock::store::MemoryStore;
use ticketlock::telemetry::Telemetry;
use ticketlock_client::backend::{BackendType, Backends};
use ticketlock_client::locker::{Locker, LockerConfig};
use ticketlock_client::provider::{LockConfig, LockProvider, LockProviderFactory};
use ticketlock_client::{Client, LockInfo};
use tokio::net::TcpListener;

/// A backend that is there.
pub struct Place {
    pub backends: Backends,
    pub name: BackendType,
    endpoints: Vec<String>,
    dir: TempDir,
}

impl Place {
    /// Each backend in turn.
    pub async fn all() -> Vec<Self> {
        let mut places = Vec::new();
        for name in ["remote", "memory", "file"] {
            places.push(Self::of(name).await);
        }
        places
    }

    async fn of(name: &str) -> Self {
        let endpoints = match name {
            "remote" => vec![format!("http://{}", serve().await)],
            _ => Vec::new(),
        };
        Self {
            backends: embedded::register(Backends::default()),
            name: BackendType::from(name),
            endpoints,
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    /// Of a server, where it is one.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoints.first().map(String::as_str)
    }

    pub fn locker_config(&self, owner: &str) -> LockerConfig {
        LockerConfig {
            backend: self.name.clone(),
            endpoints: self.endpoints.clone(),
            dir: Some(self.dir.path().to_owned()),
            owner: Some(owner.to_owned()),
            ..LockerConfig::default()
        }
    }

    pub async fn locker(&self, owner: &str) -> Arc<dyn Locker> {
        self.locker_config(owner).build(&self.backends).await.expect("a locker")
    }

    pub fn lock_config(&self) -> LockConfig {
        LockConfig {
            provider: self.name.clone(),
            endpoints: self.endpoints.clone(),
            dir: Some(self.dir.path().to_owned()),
            ..LockConfig::default()
        }
    }

    pub async fn provider(&self) -> Arc<dyn LockProvider> {
        let factory = LockProviderFactory::new(self.backends.clone());
        factory
            .create_lock_provider(&self.lock_config())
            .await
            .expect("a provider")
    }

    pub async fn client(&self, owner: &str) -> Client {
        let config = self.locker_config(owner);
        let mut backend = ticketlock_client::backend::BackendConfig::default();
        backend.endpoints = config.endpoints;
        backend.dir = config.dir;
        backend.owner = config.owner;
        self.backends.connect(&self.name, &backend).await.expect("a client")
    }
}

/// A server on a free port, in this runtime.
pub async fn serve() -> SocketAddr {
    counted().await.2
}

/// The same, and what it counts.
pub async fn counted() -> (Arc<Telemetry>, Service, SocketAddr) {
    let config = ServerConfig::default();
    let store = MemoryStore::new([1; 16], config.shards, unix_seconds());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Server::start(Arc::new(store), config, IdSource::system());
    let server = server.await.expect("it starts");
    let (telemetry, service) = (Arc::clone(server.telemetry()), server.service().clone());
    tokio::spawn(async move {
        let served = server.run(listener, None, std::future::pending());
        served.await.expect("it serves");
    });
    (telemetry, service, address)
}

/// Asks for a key until it is as wanted: for what has no event of its own.
pub async fn until(client: &Client, key: &str, wanted: impl Fn(&LockInfo) -> bool) -> LockInfo {
    let looking = async {
        loop {
            let lock = client.get(key).await.expect("answered");
            if wanted(&lock) {
                return lock;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking)
        .await
        .expect("in time")
}

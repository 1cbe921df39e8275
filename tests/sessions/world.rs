//! A server in this process, clients, and a way between them that can be cut and counts what goes up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ticketlock::ServerConfig;
use ticketlock::grpc::Server;
use ticketlock::service::{IdSource, Service, unix_seconds};
use ticketlock::store::MemoryStore;
use ticketlock_client::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running server.
pub struct World {
    address: SocketAddr,
    service: Service,
}

impl World {
    /// Starts a server in this runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (config, ids) = (ServerConfig::default(), IdSource::system());
        let store = Arc::new(MemoryStore::new(ids.draw_id(), config.shards, unix_seconds()));
        let server = Server::start(store, config, ids).await.expect("it starts");
        let service = server.service().clone();
        tokio::spawn(async move { server.run(listener, None, std::future::pending()).await });
        Self { address, service }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client straight to it.
    pub async fn client(&self, owner: &str) -> Client {
        self.client_over(self.address, owner).await
    }

    /// A client over this address.
    pub async fn client_over(&self, address: SocketAddr, owner: &str) -> Client {
        let builder = Client::builder().endpoint(format!("http://{address}")).owner(owner);
        builder.connect().await.expect("connected")
    }

    /// Waits until no ticket is left.
    pub async fn until_empty(&self) {
        let left = || {
            self.service
                .totals()
                .iter()
                .any(|totals| totals.holders + totals.waiters > 0)
        };
        let empty = async {
            while left() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), empty)
            .await
            .expect("nothing is left behind");
    }

    /// A way to the server: where it begins, what cuts every connection on it, and how many bytes went up.
    pub async fn way(&self) -> (SocketAddr, watch::Sender<bool>, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = listener.local_addr().expect("an address");
        let (cut, cuts) = watch::channel(false);
        let bytes = Arc::new(AtomicUsize::new(0));
        let (server, counted) = (self.address, Arc::clone(&bytes));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut cuts, bytes) = (cuts.clone(), Arc::clone(&counted));
                // A cut of before is none of this connection's.
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        _ = cuts.changed() => {}
                        _ = carry(near, server, &bytes) => {}
                    }
                });
            }
        });
        (way, cut, bytes)
    }
}

/// Carries both directions until one ends.
async fn carry(near: TcpStream, server: SocketAddr, bytes: &AtomicUsize) -> std::io::Result<()> {
    let far = TcpStream::connect(server).await?;
    far.set_nodelay(true)?;
    near.set_nodelay(true)?;
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = near_in.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            bytes.fetch_add(count, Ordering::Relaxed);
            far_out.write_all(buffer.get(..count).unwrap_or_default()).await?;
        }
    };
    let down = async {
        tokio::io::copy(&mut far_in, &mut near_out).await?;
        Ok(())
    };
    tokio::select! {
        biased;
        result = up => result,
        result = down => result,
    }
}

/// A number from the environment, or this one.
pub fn number_from(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

//! A server in this process on free ports, and short ways to call it with the generated stubs.

pub mod talk;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ticketlock::config::ServerConfig;
use ticketlock::grpc::ErrorReason;
use ticketlock::grpc::server::{ServeError, Server};
use ticketlock::service::{IdSource, Service, unix_seconds};
use ticketlock::store::{MemoryStore, Store};
use ticketlock_core::sharding::ShardCount;
use ticketlock_proto::v1;
use ticketlock_proto::v1::admin_service_client::AdminServiceClient;
use ticketlock_proto::v1::lock_response::Event;
use ticketlock_proto::v1::lock_service_client::LockServiceClient;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// Long enough for every event of these tests on a slow machine; reached only when something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The stub.
pub type Locks = LockServiceClient<Channel>;

/// A running server.
pub struct TestServer {
    /// `http://127.0.0.1:PORT` of gRPC.
    pub endpoint: String,
    /// Where `/metrics` is.
    pub http: SocketAddr,
    /// What is behind it.
    pub service: Service,
    /// Ends it.
    stop: oneshot::Sender<()>,
    /// How it ended.
    task: JoinHandle<Result<(), ServeError>>,
}

/// Starts a server over the memory store.
pub async fn start_server(config: ServerConfig) -> TestServer {
    let store = MemoryStore::new([7; 16], config.shards, unix_seconds());
    start_server_over(Arc::new(store), config).await
}

/// Starts a server over this store.
pub async fn start_server_over(store: Arc<dyn Store>, config: ServerConfig) -> TestServer {
    if let Ok(name) = std::env::var("TICKETLOCK_PLANTED") {
        assert!(ticketlock_core::planted::plant(&name), "there is no defect {name}");
    }
    let server = Server::start(store, config, IdSource::system()).await.expect("starts");
    let service = server.service().clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let pages = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let http = pages.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(listener, Some(pages), async move {
        // A test that is over stops its server.
        let _ = stopped.await;
    }));
    TestServer {
        endpoint,
        http,
        service,
        stop,
        task,
    }
}

impl TestServer {
    /// A new connection.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).expect("an address");
        endpoint.connect().await.expect("connects")
    }

    /// The stub on a new connection.
    pub async fn locks(&self) -> Locks {
        LockServiceClient::new(self.channel().await)
    }

    /// The operators' stub on a new connection.
    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    /// Begins to stop; the rest is told by [`TestServer::ended`].
    pub fn stop(self) -> Ending {
        self.stop.send(()).expect("still running");
        Ending { task: self.task }
    }

    /// Waits until no ticket is left.
    pub async fn until_empty(&self) {
        let empty = async {
            while self
                .service
                .totals()
                .iter()
                .any(|totals| totals.holders + totals.waiters > 0)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, empty)
            .await
            .expect("nothing is left behind");
    }
}

/// A server that is stopping.
pub struct Ending {
    /// How it ended.
    task: JoinHandle<Result<(), ServeError>>,
}

impl Ending {
    /// Waits for the end.
    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("in time")
            .expect("no panic")
            .expect("ends well");
    }
}

/// A request that is as short as can be.
pub fn request(key: &str, owner: &str) -> v1::LockRequest {
    v1::LockRequest {
        key: key.into(),
        owner: owner.into(),
        ..v1::LockRequest::default()
    }
}

/// An unlock by token.
pub fn unlock(key: &str, owner: &str, token: u64) -> v1::UnlockRequest {
    v1::UnlockRequest {
        key: key.into(),
        owner: owner.into(),
        fencing_token: token,
        ..v1::UnlockRequest::default()
    }
}

/// A duration on the wire.
pub fn wire(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

/// Opens a lock stream.
pub async fn lock(locks: &mut Locks, request: v1::LockRequest) -> Result<Streaming<v1::LockResponse>, Status> {
    locks.lock(request).await.map(tonic::Response::into_inner)
}

/// The next message of a stream; an error of the stream is the caller's to judge.
pub async fn message(stream: &mut Streaming<v1::LockResponse>) -> Result<Option<v1::LockResponse>, Status> {
    tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("a message in time")
}

/// The next event, which must come.
pub async fn event(stream: &mut Streaming<v1::LockResponse>) -> Event {
    message(stream)
        .await
        .expect("no error")
        .expect("not the end")
        .event
        .expect("a known event")
}

/// The next event, which must be a grant.
pub async fn granted(stream: &mut Streaming<v1::LockResponse>) -> v1::Granted {
    match event(stream).await {
        Event::Granted(granted) => granted,
        other => panic!("a grant was expected, not {other:?}"),
    }
}

/// The next event, which must be a place in line.
pub async fn queued(stream: &mut Streaming<v1::LockResponse>) -> v1::Queued {
    match event(stream).await {
        Event::Queued(queued) => queued,
        other => panic!("a place in line was expected, not {other:?}"),
    }
}

/// Code, reason and message of a status; the reason is empty where there is none of this domain.
pub fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == "ticketlock");
    (status.code(), info.map(|info| info.reason.clone()).unwrap_or_default())
}

/// A holder of `key`, and its token.
pub async fn hold(locks: &mut Locks, key: &str, owner: &str) -> (Streaming<v1::LockResponse>, u64) {
    let mut stream = lock(locks, request(key, owner)).await.expect("taken");
    let token = granted(&mut stream).await.fencing_token;
    (stream, token)
}

/// The call failed with this reason and its code, and with words for people.
#[track_caller]
pub fn check<T>(result: Result<T, Status>, expected: ErrorReason) -> Status {
    let status = result.err().unwrap_or_else(|| panic!("{expected:?} was expected"));
    assert_eq!(
        reason(&status),
        (expected.code(), expected.name().to_owned()),
        "{status:?}"
    );
    assert!(!status.message().is_empty(), "{expected:?} without words");
    let hint = status.get_error_details().retry_info().is_some();
    assert_eq!(
        hint,
        expected.code() == Code::Unavailable,
        "{expected:?}: a retry hint iff it may help"
    );
    status
}

/// A configuration with two shards and whatever else a test wants.
pub fn config(change: impl FnOnce(&mut ServerConfig)) -> ServerConfig {
    let shards = ShardCount::new(2).expect("a power of two");
    let mut config = ServerConfig {
        shards,
        ..ServerConfig::default()
    };
    change(&mut config);
    config
}

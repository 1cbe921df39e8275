//! Listens, serves, and stops within a bound.
//!
//! Every HTTP/2 setting that matters is explicit: the defaults of the stack allow one client to harm others, or one
//! unread stream to end a connection.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use ticketlock_proto::v1::admin_service_server::AdminServiceServer;
use ticketlock_proto::v1::lock_service_server::LockServiceServer;
use tokio::net::TcpListener;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::admin::Admin;
use super::io::{Connections, Io, Listen};
use super::layer::WatchLayer;
use super::lock::Locks;
use crate::config::ServerConfig;
use crate::http;
use crate::service::{Clock, IdSource, Service, ServiceError, unix_seconds};
use crate::store::{MemoryStore, Store};
use crate::sync::oneshot;
use crate::telemetry::Telemetry;

/// Bytes in flight on one connection. The stack's budget for small unread frames grows with it.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes in flight on one stream.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Resets by the client that were not accepted yet, before its connection is closed.
const PENDING_RESETS_MAX: usize = 200;
/// Stream errors found on this side in a connection's whole life, before it is closed. The stack never forgets one, so
/// a long-lived connection needs a bound that it does not reach by age.
const LOCAL_ERROR_RESETS_MAX: usize = 1_000_000;
/// How often the health service looks whether the shards answer.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// How often observations are moved into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after an accept that failed, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of the time for a shutdown, this part at the end is kept for closing connections.
const CLOSING: u32 = 5;

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot listen.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The service does not start.
    #[error("cannot start: {0}")]
    Start(#[from] ServiceError),
    /// The descriptors for reflection cannot be read.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The stack gave up.
    #[error("cannot serve: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The HTTP port gave up.
    #[error("cannot serve over HTTP: {0}")]
    Http(io::Error),
}

/// Serves with the memory store on the configured addresses, until `shutdown` has come and everything has ended.
pub async fn serve(config: ServerConfig, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
    let listener = listen(config.listen).await?;
    let http = match config.http {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let ids = IdSource::system();
    let store = MemoryStore::new(ids.draw_id(), config.shards, unix_seconds());
    let server = Server::start(Arc::new(store), config, ids).await?;
    server.run(listener, http, shutdown).await
}

/// A listener on `address`.
async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ServeError::Listen { address, error })
}

/// A started server that does not listen yet.
pub struct Server {
    /// Does the work.
    service: Service,
    /// Looks on.
    telemetry: Arc<Telemetry>,
}

impl Server {
    /// Takes all shards of `store`.
    pub async fn start(store: Arc<dyn Store>, config: ServerConfig, ids: IdSource) -> Result<Self, ServeError> {
        let clock = Clock::new();
        let telemetry = Telemetry::new(clock, config.metrics);
        let observer = Arc::clone(&telemetry);
        let service = Service::start(store, Arc::new(config), clock, ids, observer).await?;
        Ok(Self { service, telemetry })
    }

    /// The service, for whoever embeds a server.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What it counts.
    #[must_use]
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Serves on these listeners, until `shutdown` has come, or an operator's `Drain`, and everything has ended: at most
    /// the configured time later, whatever clients do.
    pub async fn run(
        self,
        listener: impl Listen,
        http: Option<TcpListener>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let config = self.service.config();
        let clock = self.service.clock();
        if let Ok(address) = listener.local_addr() {
            let store = self.service.store();
            tracing::info!(%address, store = store.name(), durability = store.durability(), "serving");
        }
        let connections = Connections::new(
            config.limits.connections_max,
            config.keepalive_timeout,
            clock,
            Arc::clone(&self.telemetry),
        );
        let health = HealthReporter::new();
        let routes = self.routes(&health)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = stack(config)
            .layer(WatchLayer::new(Arc::clone(&self.telemetry)))
            .add_routes(routes);
        let incoming = incoming(listener, Arc::clone(&connections), clock);
        let serving = serving.serve_with_incoming_shutdown(incoming, async move {
            // A server that is dropped stops, too.
            let _ = stopped.await;
        });
        let mut serving = std::pin::pin!(serving);
        let pages = self.pages(http);
        let mut beside = std::pin::pin!(self.beside(&health, pages));
        let mut shutdown = std::pin::pin!(shutdown);
        tokio::select! {
            biased;
            () = &mut shutdown => {}
            () = self.service.drain_asked() => {}
            result = &mut serving => return Ok(result?),
            result = &mut beside => return result,
        }
        tracing::info!("stopping");
        let ending = self.end(&health, stop, &connections);
        let mut ending = std::pin::pin!(ending);
        // The pages stay until the end, so that `/readyz` can say why.
        tokio::select! {
            biased;
            () = &mut ending => {}
            _ = async { tokio::join!(&mut serving, &mut beside) } => {}
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Every service of the port.
    fn routes(&self, health: &HealthReporter) -> Result<Routes, ServeError> {
        let limits = &self.service.config().limits;
        let locks = Locks::new(self.service.clone(), Arc::clone(&self.telemetry));
        let locks = LockServiceServer::new(locks).max_decoding_message_size(limits.request_bytes_max);
        let admin = Admin::new(self.service.clone(), Arc::clone(&self.telemetry));
        let admin = AdminServiceServer::new(admin).max_decoding_message_size(limits.request_bytes_max);
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.clone()),
        )
        .max_decoding_message_size(limits.request_bytes_max);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(ticketlock_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut routes = Routes::builder();
        routes
            .add_service(locks)
            .add_service(admin)
            .add_service(health)
            .add_service(
                reflection()
                    .build_v1()?
                    .max_decoding_message_size(limits.request_bytes_max),
            )
            .add_service(
                reflection()
                    .build_v1alpha()?
                    .max_decoding_message_size(limits.request_bytes_max),
            );
        Ok(routes.routes())
    }

    /// What runs beside: the pages, the health service's knowledge, the upkeep of histograms. Ends only by an error.
    async fn beside(
        &self,
        health: &HealthReporter,
        pages: impl Future<Output = Result<(), ServeError>>,
    ) -> Result<(), ServeError> {
        let clock = self.service.clock();
        let watching = async {
            let mut told = None;
            loop {
                // Only what has changed is told: whoever watches hears every word.
                let ready = self.service.ready().is_ok();
                if told.replace(ready) != Some(ready) {
                    tell_health(health, ready).await;
                }
                clock.sleep(HEALTH_INTERVAL).await;
            }
        };
        let upkeep = async {
            loop {
                clock.sleep(UPKEEP_INTERVAL).await;
                self.telemetry.upkeep();
            }
        };
        tokio::select! {
            biased;
            result = pages => result,
            () = watching => Ok(()),
            () = upkeep => Ok(()),
        }
    }

    /// The pages, on their listener if there is one. Never ends well.
    fn pages(&self, http: Option<TcpListener>) -> impl Future<Output = Result<(), ServeError>> + use<> {
        let (service, telemetry) = (self.service.clone(), Arc::clone(&self.telemetry));
        async move {
            match http {
                Some(listener) => http::serve(listener, service, telemetry)
                    .await
                    .map_err(ServeError::Http),
                None => std::future::pending().await,
            }
        }
    }

    /// Ends everything within the configured time: the streams are told first, while unlocks still get through; then
    /// connections are asked to close; then they are closed.
    async fn end(&self, health: &HealthReporter, stop: oneshot::Sender<()>, connections: &Connections) {
        let clock = self.service.clock();
        let within = self.service.config().shutdown_within;
        let end = clock.now().after(within);
        tell_health(health, false).await;
        self.service.shutdown(within - within / CLOSING).await;
        // A stack that ended by itself hears nothing.
        let _ = stop.send(());
        // Order: a peer that keeps its connection open is not waited for longer than this (hyper #4170).
        let half = end.since(clock.now()) / 2;
        tokio::select! {
            biased;
            () = connections.until_empty() => return,
            () = clock.sleep(half) => {}
        }
        connections.doom_all();
        tokio::select! {
            biased;
            () = connections.until_empty() => {}
            () = clock.sleep_until(end) => tracing::warn!("not all connections closed in time"),
        }
    }
}

/// Tells the health service about the server and each of its services.
async fn tell_health(health: &HealthReporter, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for name in ["", LockServiceServer::<Locks>::NAME, AdminServiceServer::<Admin>::NAME] {
        health.set_service_status(name, status).await;
    }
}

/// The stack with every setting that matters.
fn stack(config: &ServerConfig) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .accept_http1(false)
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .http2_adaptive_window(Some(false))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_concurrent_streams(config.limits.streams_per_connection_max)
        .http2_max_header_list_size(config.limits.header_list_bytes_max)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS_MAX))
}

/// Connections as they come, without those over the limit.
fn incoming<L: Listen>(
    listener: L,
    connections: Arc<Connections>,
    clock: Clock,
) -> impl futures_core::Stream<Item = io::Result<Io<L::Io>>> {
    stream::unfold(listener, move |mut listener| {
        let connections = Arc::clone(&connections);
        async move {
            loop {
                match listener.accept().await {
                    Ok(inner) => {
                        if let Some(io) = connections.admit(inner) {
                            return Some((Ok(io), listener));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        clock.sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    })
}

//! `ticketlock serve`: the flags become a configuration, the server does the rest.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use ticketlock::ServerConfig;
use ticketlock::grpc::Server;
use ticketlock::service::{IdSource, unix_seconds};
use ticketlock::store::{BoxFuture, FileStore, MemoryStore, Store};
use ticketlock::telemetry::logging;
use ticketlock_core::sharding::{SHARDS_MAX, ShardCount};
use tokio::net::TcpListener;

use super::args::{LogFormat, Serve};
use super::signals::Stops;
use super::values::StoreUrl;

/// Serves until a signal ends it.
pub async fn run(args: Serve) -> anyhow::Result<ExitCode> {
    let format = match args.log_format {
        LogFormat::Text => logging::LogFormat::Text,
        LogFormat::Json => logging::LogFormat::Json,
    };
    logging::init(&args.log, format)?;
    let config = ServerConfig {
        listen: args.listen,
        http: Some(args.http),
        metrics: !args.no_metrics,
        shards: ShardCount::new(args.shards).context("not a power of two")?,
        keepalive_interval: args.keepalive_interval,
        keepalive_timeout: args.keepalive_timeout,
        ..ServerConfig::default()
    };
    let mut stops = Stops::listen()?;
    let grpc = listen(args.listen).await?;
    let http = listen(args.http).await?;
    let ids = IdSource::system();
    let (store, failed) = open(&args.store, &ids, config.shards)?;
    let addresses = (grpc.local_addr()?, http.local_addr()?);
    let server = Server::start(store, config, ids).await?;
    announce(addresses.0, addresses.1);
    let serving = server.run(grpc, Some(http), async move {
        stops.next().await;
    });
    tokio::select! {
        biased;
        // At once: what clients are told from here on is not kept.
        failure = failed => anyhow::bail!(failure),
        result = serving => result?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The store, and what ends when it has failed for good.
fn open(
    store: &StoreUrl,
    ids: &IdSource,
    shards: ShardCount,
) -> anyhow::Result<(Arc<dyn Store>, BoxFuture<'static, String>)> {
    let id = ids.draw_id();
    match store {
        StoreUrl::Memory => {
            tracing::warn!("locks are kept in memory: they end with this process, and exclusion with them");
            let store = MemoryStore::new(id, shards, unix_seconds());
            Ok((Arc::new(store), Box::pin(std::future::pending())))
        }
        StoreUrl::File(dir) => {
            let store = FileStore::open(dir, id, shards, unix_seconds())?;
            let failed = Box::pin(store.failed());
            Ok((Arc::new(store), failed))
        }
    }
}

async fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// One line for whoever started the server with port 0. A closed standard output is no reason not to serve.
fn announce(grpc: std::net::SocketAddr, http: std::net::SocketAddr) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "listening grpc={grpc} http={http}");
    let _ = stdout.flush();
}

/// Refuses with the arguments what no server could use.
pub fn parse_shards(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().and_then(ShardCount::new);
    count
        .map(ShardCount::get)
        .ok_or_else(|| format!("must be a power of two from 1 to {SHARDS_MAX}"))
}

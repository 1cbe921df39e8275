//! Redis as a lock service: a token with an expiry, and a script that deletes what it still owns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Client, Script};
use tokio::task::JoinSet;

use crate::process::{Server, free_port, program, until_listening};
use crate::report::Results;

const CONNECTIONS: usize = 4;
/// Gives the lock back only where it is still this holder's.
const UNLOCK: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// One round: without persistence, and with every change synced before it is answered.
pub async fn measure(servers: Option<&Path>, span: Duration, results: &mut Results) -> anyhow::Result<()> {
    for (name, synced) in [("redis pairs/s", false), ("redis pairs/s, every change synced", true)] {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let mut command = program(servers, "redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--loglevel",
            "warning",
        ]);
        command
            .arg("--dir")
            .arg(folder.path())
            .stdout(std::process::Stdio::null());
        if synced {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        let server = Server::start(&mut command)?;
        until_listening(port).await?;
        results.add(name, pairs(port, 64, span).await?);
        if synced {
            results.add("redis pairs/s, every change synced, 512", pairs(port, 512, span).await?);
        }
        server.end().await?;
    }
    Ok(())
}

async fn pairs(port: u16, workers: usize, span: Duration) -> anyhow::Result<f64> {
    let client = Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client.get_multiplexed_async_connection().await?);
    }
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (worker, connection) in (0..workers).zip(connections.iter().cycle()) {
        let (connection, count) = (connection.clone(), Arc::clone(&count));
        tasks.spawn(async move { work(connection, worker, began, span, &count).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

async fn work(
    mut connection: MultiplexedConnection,
    worker: usize,
    began: Instant,
    span: Duration,
    count: &AtomicU64,
) -> anyhow::Result<()> {
    let script = Script::new(UNLOCK);
    let key = format!("bench/own/{worker}");
    for round in 0_u64.. {
        if began.elapsed() >= span {
            break;
        }
        let token = format!("{worker}-{round}");
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&token).arg("NX").arg("PX").arg(30_000);
        let set: Option<String> = set.query_async(&mut connection).await?;
        anyhow::ensure!(set.is_some(), "a key of its own was held");
        let deleted: i64 = script.key(&key).arg(&token).invoke_async(&mut connection).await?;
        anyhow::ensure!(deleted == 1, "the lock was lost");
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

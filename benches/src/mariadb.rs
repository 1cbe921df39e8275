//! MariaDB's `GET_LOCK`: one connection per worker, since the lock belongs to the connection.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use tokio::task::JoinSet;

use crate::process::{Server, program};
use crate::report::Results;

const WORKERS: usize = 64;

/// One round.
pub async fn measure(servers: Option<&Path>, span: Duration, results: &mut Results) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let data = folder.path().join("data");
    let mut bootstrap = program(servers, "mariadb-install-db");
    bootstrap
        .arg("--no-defaults")
        .arg("--auth-root-authentication-method=normal")
        .arg("--skip-test-db");
    bootstrap.arg(format!("--datadir={}", data.display()));
    if let Some(servers) = servers {
        bootstrap.arg(format!("--basedir={}", servers.join("usr").display()));
    }
    let made = bootstrap.output().await?;
    anyhow::ensure!(
        made.status.success(),
        "mariadb-install-db: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut command = program(servers, "mariadbd");
    command.args([
        "--no-defaults",
        "--skip-networking",
        "--user=root",
        "--max-connections=200",
    ]);
    if let Some(servers) = servers {
        command.arg(format!("--basedir={}", servers.join("usr").display()));
    }
    command
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()));
    let server = Server::start(command.stdout(std::process::Stdio::null()))?;
    let opts = OptsBuilder::default()
        .socket(Some(socket.display().to_string()))
        .user(Some("root"));
    results.add("mariadb pairs/s", pairs(&opts, span).await?);
    server.end().await
}

/// The server makes its files at its first start: the first connection waits for that.
async fn connect(opts: &OptsBuilder) -> anyhow::Result<Conn> {
    for _ in 0..600 {
        if let Ok(connection) = Conn::new(opts.clone()).await {
            return Ok(connection);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Conn::new(opts.clone()).await?)
}

async fn pairs(opts: &OptsBuilder, span: Duration) -> anyhow::Result<f64> {
    let mut connections = Vec::new();
    for _ in 0..WORKERS {
        connections.push(connect(opts).await?);
    }
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (worker, mut connection) in connections.into_iter().enumerate() {
        let count = Arc::clone(&count);
        tasks.spawn(async move {
            let take = format!("SELECT GET_LOCK('bench/own/{worker}', 10)");
            let give = format!("SELECT RELEASE_LOCK('bench/own/{worker}')");
            while began.elapsed() < span {
                let taken: Option<Option<i64>> = connection.query_first(take.as_str()).await?;
                let given: Option<Option<i64>> = connection.query_first(give.as_str()).await?;
                anyhow::ensure!(taken == Some(Some(1)) && given == Some(Some(1)), "GET_LOCK failed");
                count.fetch_add(1, Ordering::Relaxed);
            }
            connection.disconnect().await?;
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

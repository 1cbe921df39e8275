//! Ticketlock's file store: each change is synced before it is answered, and one sync covers all that waits.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::Command;

use crate::report::Results;
use crate::ticketlock::{all, number, pairs, rate, run, start};

/// How many syncs are timed.
const SYNCS: usize = 500;

/// One round. Each part that counts commits has a directory of its own.
pub async fn measure(program: &Path, span: Duration, results: &mut Results) -> anyhow::Result<()> {
    let seconds = format!("{}s", span.as_secs());
    let sync = sync(tempfile::tempfile()?)?;
    results.add("sync of 4 KiB us", sync.as_secs_f64() * 1e6);
    let bounds = results
        .latest("echo bidi/s, 1 in flight")
        .zip(results.latest("echo idle RTT us"));
    if let Some((bidi, idle)) = bounds {
        results.add("bare bidi-1 and one sync, /s", 1.0 / (1.0 / bidi + sync.as_secs_f64()));
        results.add("bare idle RTT and 1.5 syncs us", idle + sync.as_secs_f64() * 1.5e6);
    }

    for workers in ["64", "512"] {
        let folder = tempfile::tempdir()?;
        let store = store(folder.path())?;
        let (server, endpoint) = start(program, &store, &[]).await?;
        let report = run(program, &endpoint, &seconds, &["pairs", "--workers", workers]).await?;
        results.add(&format!("file pairs/s, {workers} workers"), rate(&report, 0)?);
        server.end().await?;
        let commits = commits(program, folder.path()).await?;
        results.add(
            &format!("file changes/sync, {workers} workers"),
            2.0 * all(&report)? / commits,
        );
    }

    let folder = tempfile::tempdir()?;
    let (server, endpoint) = start(program, &store(folder.path())?, &[]).await?;
    let (_, cpu) = pairs(program, &server, &endpoint, &seconds).await?;
    results.add("file cpu us/pair", cpu);
    let bench = |arguments: &'static [&'static str]| run(program, &endpoint, &seconds, arguments);
    results.add("file pairs/s, plain", rate(&bench(&["pairs", "--plain"]).await?, 0)?);
    results.add("file hot key/s", rate(&bench(&["hot", "--workers", "32"]).await?, 0)?);
    let handoff = bench(&["handoff"]).await?;
    results.add("file hand-off us", number(&handoff, "/phases/0/p50_ns")? / 1e3);
    for workers in [&["waiters", "--workers", "1000"], &["waiters", "--workers", "10000"]] {
        let drained = bench(workers).await?;
        let count = workers.last().context("a number")?;
        results.add(&format!("file drained/s of {count}"), rate(&drained, 1)?);
    }
    server.end().await
}

fn store(folder: &Path) -> anyhow::Result<String> {
    Ok(format!("file:{}", folder.to_str().context("an odd temporary folder")?))
}

/// How many commits a directory has seen, by the program's own word.
async fn commits(program: &Path, folder: &Path) -> anyhow::Result<f64> {
    let output = Command::new(program)
        .args(["inspect", "-o", "json"])
        .arg(folder)
        .output()
        .await?;
    anyhow::ensure!(output.status.success(), "inspect failed");
    let first = output.stdout.split(|byte| *byte == b'\n').next();
    number(&serde_json::from_slice(first.context("no output")?)?, "/commits")
}

/// What one sync of a page that was overwritten in place takes, median: what no durable answer can do without.
fn sync(mut file: File) -> anyhow::Result<Duration> {
    let page = [7; 4096];
    file.write_all(&page)?;
    file.sync_data()?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.rewind()?;
        file.write_all(&page)?;
        let began = Instant::now();
        file.sync_data()?;
        took.push(began.elapsed());
    }
    took.sort();
    took.get(SYNCS / 2).copied().context("no sync")
}

//! Ticketlock itself: the release program serves, and its own load tool is the client, as any user would run it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use crate::process::Server;
use crate::report::Results;

/// One round.
pub async fn measure(program: &Path, span: Duration, results: &mut Results) -> anyhow::Result<()> {
    let (server, endpoint) = start(program, "memory:", &[]).await?;
    let seconds = format!("{}s", span.as_secs());
    let bench = |arguments: &'static [&'static str]| run(program, &endpoint, &seconds, arguments);

    let (pairs, cpu) = pairs(program, &server, &endpoint, &seconds).await?;
    results.add("ticketlock pairs/s, 64 workers", pairs);
    results.add("ticketlock cpu us/pair", cpu);
    let pairs = bench(&["pairs", "--workers", "512"]).await?;
    results.add("ticketlock pairs/s, 512 workers", rate(&pairs, 0)?);
    let plain = bench(&["pairs", "--plain"]).await?;
    results.add("ticketlock pairs/s, plain", rate(&plain, 0)?);
    let hot = bench(&["hot", "--workers", "32"]).await?;
    results.add("ticketlock hot key/s", rate(&hot, 0)?);
    results.add("ticketlock hot most served", number(&hot, "/most_served")?);
    results.add("ticketlock hot least served", number(&hot, "/least_served")?);
    let handoff = bench(&["handoff"]).await?;
    results.add("ticketlock hand-off us", number(&handoff, "/phases/0/p50_ns")? / 1e3);
    for workers in [&["waiters", "--workers", "1000"], &["waiters", "--workers", "10000"]] {
        let drained = bench(workers).await?;
        let count = workers.last().context("a number")?;
        results.add(&format!("ticketlock queued/s of {count}"), rate(&drained, 0)?);
        results.add(&format!("ticketlock drained/s of {count}"), rate(&drained, 1)?);
    }
    server.end().await?;
    let (server, endpoint) = start(program, "memory:", &["--no-metrics"]).await?;
    let (_, cpu) = self::pairs(program, &server, &endpoint, &seconds).await?;
    results.add("ticketlock cpu us/pair, no metrics", cpu);
    server.end().await?;
    memory(program, results).await
}

/// Pairs a second of 64 workers, and the server's CPU time for each in microseconds.
pub async fn pairs(program: &Path, server: &Server, endpoint: &str, seconds: &str) -> anyhow::Result<(f64, f64)> {
    let before = server.cpu()?;
    let report = run(program, endpoint, seconds, &["pairs"]).await?;
    let used = server.cpu()?.saturating_sub(before);
    Ok((rate(&report, 0)?, used.as_secs_f64() * 1e6 / all(&report)?))
}

/// Everything that a phase of pairs did: the warm-up's tenth is work, too.
pub fn all(report: &Value) -> anyhow::Result<f64> {
    Ok(number(report, "/phases/0/count")? * 1.1)
}

/// A server of its own for the memory that waiters take, above what it takes at rest: while all wait, and at most.
async fn memory(program: &Path, results: &mut Results) -> anyhow::Result<()> {
    for (name, connections) in [("sessions", &["4"] as &[&str]), ("plain streams", &["50", "--plain"])] {
        let (server, endpoint) = start(program, "memory:", &[]).await?;
        let said = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).env("TICKETLOCK_ENDPOINT", &endpoint);
            command
        };
        // The key that `hot` goes for is held, so that all its workers wait.
        let held = said(&["lock", "bench/hot", "--detach", "--ttl", "5m"]).output().await?;
        anyhow::ensure!(held.status.success(), "the key could not be held");
        let before = server.resident_kib("VmRSS")?;
        let mut waiting = said(&[
            "bench",
            "hot",
            "--workers",
            "10000",
            "--duration",
            "5m",
            "--connections",
        ]);
        let waiting = Server::start(waiting.args(connections).stdout(std::process::Stdio::null()))?;
        loop {
            let listed = said(&["ls", "-o", "json"]).output().await?;
            let key: Value = serde_json::from_slice(&listed.stdout)?;
            if number(&key, "/waiters_total")? >= 10_000.0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for (what, field) in [("", "VmRSS"), (", at most", "VmHWM")] {
            let more = server.resident_kib(field)? - before;
            results.add(&format!("ticketlock KiB/waiter, {name}{what}"), more / 10_000.0);
        }
        waiting.end().await?;
        server.end().await?;
    }
    Ok(())
}

/// A server on free ports, and its endpoint.
pub async fn start(program: &Path, store: &str, arguments: &[&str]) -> anyhow::Result<(Server, String)> {
    let mut command = Command::new(program);
    command.args([
        "serve",
        "--store",
        store,
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--log",
        "warn",
    ]);
    let (server, line) = Server::start_and_read(command.args(arguments)).await?;
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("grpc="));
    let endpoint = format!("http://{}", address.context("no address in the first line")?);
    Ok((server, endpoint))
}

/// Runs the load tool; what it says.
pub async fn run(program: &Path, endpoint: &str, seconds: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new(program)
        .args(["bench", "-o", "json", "--duration", seconds, "--endpoint", endpoint])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "bench {arguments:?}: {words}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Operations a second of a phase.
pub fn rate(report: &Value, phase: usize) -> anyhow::Result<f64> {
    number(report, &format!("/phases/{phase}/per_second"))
}

/// A figure of a report.
pub fn number(report: &Value, path: &str) -> anyhow::Result<f64> {
    let value = report.pointer(path).and_then(Value::as_f64);
    value.with_context(|| format!("no {path} in {report}"))
}

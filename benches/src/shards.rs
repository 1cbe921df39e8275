//! Shard counts at their loads: what more shards bring on these cores, and what they cost at rest.

use std::path::Path;
use std::time::Duration;

use crate::report::Results;
use crate::ticketlock;

/// One round: pairs a second for each number of shards and workers, and the memory of a server at rest.
pub async fn measure(program: &Path, span: Duration, results: &mut Results) -> anyhow::Result<()> {
    for shards in ["1", "8", "32", "128", "256"] {
        let (server, endpoint) = ticketlock::start(program, "memory:", &["--shards", shards]).await?;
        results.add(&format!("shards {shards:>3}: idle KiB"), server.resident_kib("VmRSS")?);
        for workers in ["8", "100", "512", "2000"] {
            let seconds = format!("{}s", span.as_secs());
            let report = ticketlock::run(program, &endpoint, &seconds, &["pairs", "--workers", workers]).await?;
            let name = format!("shards {shards:>3}: pairs/s, {workers:>4} workers");
            results.add(&name, ticketlock::rate(&report, 0)?);
        }
        server.end().await?;
    }
    Ok(())
}

//! Task scheduling: every node has the same schedule, and each run is done by one node.
//!
//! ```text
//! cargo run -p ticketlock-client --example task_scheduler [ENDPOINT [PERIOD_MS [RUNS]]]
//! ```
//!
//! Start it twice. A run is named by the clock, and has a key of its own. Whoever takes the key first does the run;
//! then the key is left to its lease, which nobody renews: for so long it bars the run from nodes that are late. A run
//! whose node dies is not done by another one.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use ticketlock_client::{Client, Error, OnDisconnect};

#[tokio::main]
async fn main() -> ExitCode {
    match schedule().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("task_scheduler: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn schedule() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:8476".to_owned());
    let period: u64 = args.next().unwrap_or_else(|| "2000".to_owned()).parse()?;
    let runs: u32 = args.next().unwrap_or_else(|| "3".to_owned()).parse()?;
    if !(100..=3_600_000).contains(&period) {
        return Err(format!("PERIOD_MS: {period} is not within 100 to 3600000").into());
    }
    let client = Client::connect(endpoint).await?;
    for _ in 0..runs {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let now_ms = u64::try_from(now.as_millis())?;
        let run = now_ms / period + 1;
        tokio::time::sleep(Duration::from_millis(run * period - now_ms)).await;
        run_once(&client, run, Duration::from_millis(period)).await?;
    }
    Ok(())
}

/// How late a node may be, in periods.
const LATE_MAX: u32 = 10;

/// Does the run, unless another node has it.
async fn run_once(client: &Client, run: u64, period: Duration) -> Result<(), Error> {
    let asking = client.lock(format!("tasks/report/{run}")).ttl(period * LATE_MAX);
    let guard = match asking.on_disconnect(OnDisconnect::Lease).no_wait().await {
        Ok(guard) => guard,
        Err(error) if error.reason() == "WOULD_WAIT" => {
            println!("run {run}: another node has it");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    println!("run {run}: done here, with token {}", guard.fencing_token());
    guard.detach().await?;
    Ok(())
}

//! `ticketlock bench`: load through the public client, and what it took.
//!
//! [`work`] is what workers do, [`measure`] what is kept of it. Latencies are HDR histograms; where a rate is set they
//! count from when an operation was due, not from when a busy worker got to it (coordinated omission).

mod measure;
mod work;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;
use ticketlock_client::Client;

use super::args::{Connection, Format};
use super::output::table;
use super::values::parse_positive;
use measure::{Clock, Report};

/// Load a server, and show what it does.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  ticketlock bench pairs\n  ticketlock bench hot --workers 32\n  \
    ticketlock bench pairs --rate 20000 --duration 30s -o json\n  ticketlock bench waiters --workers 10000"
)]
pub struct Bench {
    #[command(flatten)]
    pub connection: Connection,
    /// What the workers do.
    #[arg(value_enum, default_value = "pairs")]
    pub workload: Workload,
    /// How many work at once; for `waiters`: how many wait.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub workers: u32,
    /// Over how many connections.
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// A stream for each lock, instead of a session for each connection.
    #[arg(long)]
    pub plain: bool,
    /// For how long, after a warm-up of a tenth of it.
    #[arg(long, default_value = "10s", value_parser = parse_positive)]
    pub duration: Duration,
    /// Operations a second over all workers; default: as many as they can.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Keys begin with this.
    #[arg(long, default_value = "bench/")]
    pub prefix: String,
    /// How the result is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
}

/// What the workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Each locks and unlocks a key of its own (W1).
    Pairs,
    /// All lock and unlock one key (W2).
    Hot,
    /// One unlocks, the next is granted: how long that takes, every 30 ms (W3).
    Handoff,
    /// They wait on one key, then take their turns (W4).
    Waiters,
    /// Nine of ten on their own keys, one of ten on a shared one.
    Mixed,
}

/// Runs it.
pub async fn run(args: Bench) -> anyhow::Result<ExitCode> {
    let mut clients = Vec::new();
    for number in 0..args.connections.min(args.workers.max(2)) {
        let owner = args.connection.owner.clone().unwrap_or_else(super::default_owner);
        let client = Client::builder()
            .endpoints(args.connection.endpoint.iter().cloned())
            .owner(format!("{owner}/bench-{number}"))
            .plain_streams(args.plain)
            .connect();
        clients.push(client.await?);
    }
    let clock = Clock::start();
    let progress = tokio::spawn(progress(clock, args.duration));
    let args = Arc::new(args);
    let report = work::run(&args, &clients, clock).await;
    progress.abort();
    for client in &clients {
        client.flush().await;
    }
    print(&args, &report?)
}

/// A line on a terminal, once a second.
async fn progress(clock: Clock, duration: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let text = format!("\r{} s of about {} s ", clock.now().as_secs(), duration.as_secs());
        // A terminal that is gone needs no progress.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

fn print(args: &Bench, report: &Report) -> anyhow::Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    let workload = args.workload.to_possible_value().map(|it| it.get_name().to_owned());
    let workload = workload.unwrap_or_default();
    let transport = if args.plain { "plain streams" } else { "sessions" };
    if args.output == Format::Json {
        let phases = report.phases.iter().map(measure::Phase::json);
        let object = json!({
            "workload": workload,
            "transport": transport,
            "workers": args.workers,
            "connections": args.connections,
            "errors": report.errors,
            "least_served": report.served.0,
            "most_served": report.served.1,
            "phases": phases.collect::<Vec<_>>(),
        });
        writeln!(stdout, "{object}")?;
        return Ok(exit_code(report));
    }
    if std::io::stderr().is_terminal() {
        writeln!(std::io::stderr().lock())?;
    }
    let (workers, connections) = (args.workers, args.connections);
    writeln!(
        stdout,
        "{workload}: {workers} workers, {connections} connections, {transport}"
    )?;
    let header = ["", "COUNT", "PER SECOND", "P50", "P90", "P99", "P99.9", "MAX"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(report.phases.iter().map(measure::Phase::row));
    write!(stdout, "{}", table(&rows))?;
    let (least, most) = report.served;
    if most > 0 {
        writeln!(stdout, "least and most served worker: {least} and {most}")?;
    }
    if report.errors > 0 {
        writeln!(stdout, "errors: {}", report.errors)?;
    }
    Ok(exit_code(report))
}

/// Errors are a failed run.
fn exit_code(report: &Report) -> ExitCode {
    if report.errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

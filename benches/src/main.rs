//! Ticketlock beside what it is measured against, in one run, alternating: a bare gRPC service with messages of the same
//! sizes, Redis, MariaDB's `GET_LOCK`. Only ratios within one run mean anything: the machine may be slow or busy.
//!
//! Every server is a process of its own, started here and ended here.

mod durable;
mod echo;
mod mariadb;
mod process;
mod redis;
mod report;
mod shards;
mod ticketlock;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use report::Results;

/// Measures Ticketlock beside others, on this machine, in one run.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The `ticketlock` program, built for release.
    #[arg(long, env = "TICKETLOCK_BIN", default_value = "target/release/ticketlock")]
    ticketlock: PathBuf,
    /// Where unpacked Redis and MariaDB are, if they are not installed.
    #[arg(long, env = "TICKETLOCK_SERVERS")]
    servers: Option<PathBuf>,
    /// What is measured.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "echo,ticketlock,file,redis,mariadb,shards"
    )]
    only: Vec<String>,
    /// How often everything is measured, alternating.
    #[arg(long, default_value = "3")]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value = "3")]
    seconds: u64,
    /// Also writes every figure there, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the bare service; prints its address.
    #[command(hide = true)]
    Echo,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Command::Echo) = args.command {
        return echo::serve().await;
    }
    let span = Duration::from_secs(args.seconds.max(1));
    let mut results = Results::default();
    for round in 1..=args.rounds {
        writeln!(std::io::stderr(), "round {round} of {}", args.rounds)?;
        for subject in &args.only {
            match subject.as_str() {
                "echo" => echo::measure(span, &mut results).await?,
                "ticketlock" => ticketlock::measure(&args.ticketlock, span, &mut results).await?,
                "file" => durable::measure(&args.ticketlock, span, &mut results).await?,
                "shards" => shards::measure(&args.ticketlock, span, &mut results).await?,
                "redis" => redis::measure(args.servers.as_deref(), span, &mut results).await?,
                "mariadb" => mariadb::measure(args.servers.as_deref(), span, &mut results).await?,
                other => anyhow::bail!("--only: {other}: one of echo, ticketlock, file, redis, mariadb, shards"),
            }
        }
    }
    let mut stdout = std::io::stdout().lock();
    results.print(&mut stdout)?;
    if let Some(path) = &args.json {
        std::fs::write(path, results.json().to_string())?;
    }
    Ok(())
}

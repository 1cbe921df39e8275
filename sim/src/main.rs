//! Runs seeds: `ticketlock-sim 0..10000`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use clap::Parser;

/// Runs simulations, one for each seed.
#[derive(Debug, Parser)]
struct Args {
    /// One seed, or A..B.
    seeds: String,
    /// How many run at once.
    #[arg(long, default_value = "2")]
    jobs: usize,
    /// Run each twice, and compare what clients saw.
    #[arg(long)]
    twice: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let (first, end) = match args.seeds.split_once("..") {
        Some((first, end)) => (first.parse()?, end.parse()?),
        None => {
            let seed: u64 = args.seeds.parse().context("expected a seed, or A..B")?;
            (seed, seed + 1)
        }
    };
    let (next, bad) = (AtomicU64::new(first), AtomicU64::new(0));
    let (grants, events, faults) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match look(seed, args.twice) {
                        Ok(report) => {
                            let count = |count: usize| u64::try_from(count).unwrap_or_default();
                            grants.fetch_add(count(report.checked.grants), Ordering::Relaxed);
                            events.fetch_add(count(report.checked.events), Ordering::Relaxed);
                            faults.fetch_add(count(report.faults.len()), Ordering::Relaxed);
                        }
                        Err(error) => {
                            bad.fetch_add(1, Ordering::Relaxed);
                            // Nobody reads it: the exit status counts.
                            let _ = writeln!(std::io::stderr().lock(), "seed {seed}: {error:#}");
                        }
                    }
                    if (seed - first) % 100 == 99 {
                        let _ = writeln!(std::io::stderr().lock(), "{} of {}", seed - first + 1, end - first);
                    }
                }
            });
        }
    });
    let [grants, events, faults, bad] = [grants, events, faults, bad].map(AtomicU64::into_inner);
    writeln!(
        std::io::stdout(),
        "{} seeds ({first}..{end}): {faults} faults, {grants} grants, {events} events, {bad} seeds broke a promise",
        end - first
    )?;
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(seed: u64, twice: bool) -> anyhow::Result<ticketlock_sim::Report> {
    let report = ticketlock_sim::run(seed)?;
    if twice {
        let again = ticketlock_sim::run(seed)?;
        anyhow::ensure!(report.trace == again.trace, "two runs differ");
    }
    let violations: Vec<String> = report.checked.violations.iter().map(ToString::to_string).collect();
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    anyhow::ensure!(
        violations.is_empty(),
        "{}\nfaults:\n  {}",
        violations.join("\n"),
        faults.join("\n  ")
    );
    Ok(report)
}

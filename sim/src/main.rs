//! Runs seeds: `ticketlock-sim 0..10000`. Each has a process of its own, whose randomness and clocks are its seed's.

use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use clap::Parser;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

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
    /// Begin no other seed once one broke a promise.
    #[arg(long)]
    stop: bool,
    /// Run one seed in this process, and print what clients saw.
    #[arg(long, hide = true)]
    here: bool,
}

/// Sums over all seeds.
#[derive(Default)]
struct Sums {
    grants: AtomicU64,
    events: AtomicU64,
    faults: AtomicU64,
    objects: AtomicU64,
    broken: AtomicU64,
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
    if args.here {
        return here(first);
    }
    let (next, sums) = (AtomicU64::new(first), Sums::default());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || (args.stop && sums.broken.load(Ordering::Relaxed) > 0) {
                        return;
                    }
                    if let Err(error) = look(seed, args.twice, &sums) {
                        sums.broken.fetch_add(1, Ordering::Relaxed);
                        say(&format!("seed {seed}: {error:#}"));
                    }
                    if (seed - first) % 100 == 99 {
                        say(&format!("{} of {}", seed - first + 1, end - first));
                    }
                }
            });
        }
    });
    let [grants, events, faults, objects, broken] =
        [sums.grants, sums.events, sums.faults, sums.objects, sums.broken].map(AtomicU64::into_inner);
    writeln!(
        std::io::stdout(),
        "{} seeds ({first}..{end}): {faults} faults, {grants} grants, {objects} of lock objects, {events} events; \
         {broken} seeds broke a promise",
        end - first
    )?;
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn say(text: &str) {
    // Nobody reads it: the exit status counts.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Runs a seed in a process of its own.
fn look(seed: u64, twice: bool, sums: &Sums) -> anyhow::Result<()> {
    let seen = run(seed)?;
    let counts = seen
        .lines()
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::parse::<u64>);
    let all = [&sums.grants, &sums.events, &sums.faults, &sums.objects];
    for (sum, count) in all.into_iter().zip(counts) {
        sum.fetch_add(count?, Ordering::Relaxed);
    }
    if twice {
        let again = run(seed)?;
        let same = seen.lines().zip(again.lines()).take_while(|(one, other)| one == other);
        let same = same.count();
        anyhow::ensure!(
            seen == again,
            "two runs differ after {same} lines:\n{:?}\n{:?}",
            seen.lines().nth(same),
            again.lines().nth(same)
        );
    }
    Ok(())
}

fn run(seed: u64) -> anyhow::Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["--here", &seed.to_string()]).output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{words}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a seed in this process. Nothing in it draws a random number or reads a clock that is not the simulation's.
fn here(seed: u64) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("TICKETLOCK_PLANTED") {
        anyhow::ensure!(ticketlock_core::planted::plant(&name), "there is no defect {name}");
    }
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    let report = ticketlock_sim::run(seed)?;
    let (grants, events) = (report.checked.grants, report.checked.events);
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    writeln!(
        std::io::stdout(),
        "{grants} {events} {} {}\n{}",
        faults.len(),
        report.object_grants,
        report.trace
    )?;
    if report.checked.violations.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for found in &report.checked.violations {
        say(&format!("{}; on this key before:\n{}", found.violation, found.before));
    }
    say(&format!("faults:\n  {}", faults.join("\n  ")));
    Ok(ExitCode::FAILURE)
}

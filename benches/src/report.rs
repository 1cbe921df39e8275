//! Figures of several rounds: medians, spreads, and the ratios that the design promises.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

/// Figures by name, one for each round.
#[derive(Default)]
pub struct Results(BTreeMap<String, Vec<f64>>);

/// A promised ratio: what, the figure, by which it is divided, its bound, and whether it is a least one.
struct Promise {
    what: &'static str,
    figure: &'static str,
    by: &'static str,
    bound: f64,
    at_least: bool,
}

const fn at_least(what: &'static str, figure: &'static str, by: &'static str, bound: f64) -> Promise {
    Promise {
        what,
        figure,
        by,
        bound,
        at_least: true,
    }
}

const fn at_most(what: &'static str, figure: &'static str, by: &'static str, bound: f64) -> Promise {
    Promise {
        what,
        figure,
        by,
        bound,
        at_least: false,
    }
}

/// What is promised of the memory store, then of the file store.
const PROMISES: &[Promise] = &[
    at_least(
        "W1 64 workers / unary echo",
        "ticketlock pairs/s, 64 workers",
        "echo unary/s",
        2.3,
    ),
    at_least(
        "W1 512 workers / unary echo",
        "ticketlock pairs/s, 512 workers",
        "echo unary/s",
        3.2,
    ),
    at_least(
        "W1 plain streams / unary echo",
        "ticketlock pairs/s, plain",
        "echo unary/s",
        0.43,
    ),
    at_most(
        "CPU of a pair / of a unary echo",
        "ticketlock cpu us/pair",
        "echo cpu us/unary",
        0.4,
    ),
    at_least(
        "W2 hand-offs / bidi-1",
        "ticketlock hot key/s",
        "echo bidi/s, 1 in flight",
        0.9,
    ),
    at_most(
        "W2 most / least served",
        "ticketlock hot most served",
        "ticketlock hot least served",
        1.01,
    ),
    at_most(
        "W3 hand-off / idle RTT",
        "ticketlock hand-off us",
        "echo idle RTT us",
        1.0,
    ),
    at_least(
        "W4 10,000 / 1,000 waiters",
        "ticketlock drained/s of 10000",
        "ticketlock drained/s of 1000",
        0.8,
    ),
    at_most(
        "KiB per waiter on a session",
        "ticketlock KiB/waiter, sessions",
        "one",
        1.0,
    ),
    at_most(
        "KiB per waiter on a plain stream",
        "ticketlock KiB/waiter, plain streams",
        "one",
        9.0,
    ),
    at_most(
        "CPU of a pair with metrics / without",
        "ticketlock cpu us/pair",
        "ticketlock cpu us/pair, no metrics",
        1.05,
    ),
    at_least(
        "W1 64 workers / Redis",
        "ticketlock pairs/s, 64 workers",
        "redis pairs/s",
        1.0,
    ),
    at_least(
        "W1 64 workers / MariaDB GET_LOCK",
        "ticketlock pairs/s, 64 workers",
        "mariadb pairs/s",
        1.0,
    ),
    at_least(
        "file: W1 64 workers / unary echo",
        "file pairs/s, 64 workers",
        "echo unary/s",
        0.65,
    ),
    at_least(
        "file: W1 64 workers / Redis synced",
        "file pairs/s, 64 workers",
        "redis pairs/s, every change synced",
        1.1,
    ),
    at_least(
        "file: W1 512 workers / unary echo",
        "file pairs/s, 512 workers",
        "echo unary/s",
        1.7,
    ),
    at_least(
        "file: W1 512 workers / Redis synced",
        "file pairs/s, 512 workers",
        "redis pairs/s, every change synced, 512",
        1.0,
    ),
    at_least(
        "file: W1 plain streams / unary echo",
        "file pairs/s, plain",
        "echo unary/s",
        0.3,
    ),
    at_most(
        "file: CPU of a pair / of a unary echo",
        "file cpu us/pair",
        "echo cpu us/unary",
        1.1,
    ),
    at_least(
        "file: W2 / (bidi-1 and one sync)",
        "file hot key/s",
        "bare bidi-1 and one sync, /s",
        0.65,
    ),
    at_most(
        "file: W3 / (idle RTT + 1.5 syncs)",
        "file hand-off us",
        "bare idle RTT and 1.5 syncs us",
        1.0,
    ),
    at_least(
        "file: W4 10,000 / 1,000 waiters",
        "file drained/s of 10000",
        "file drained/s of 1000",
        0.8,
    ),
];

impl Results {
    /// A figure of this round.
    pub fn add(&mut self, name: &str, figure: f64) {
        self.0.entry(name.to_owned()).or_default().push(figure);
    }

    /// This round's figure, if it was measured.
    pub fn latest(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.last().copied()
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut figures = self.0.get(name)?.clone();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    }

    /// Every figure with its spread, then the ratios. Ratios are taken within each round; the median counts.
    pub fn print(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "{:<36} {:>12} {:>26}", "figure", "median", "least … greatest")?;
        for (name, figures) in &self.0 {
            let median = self.median(name).unwrap_or_default();
            let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = figures.iter().copied().fold(0.0, f64::max);
            writeln!(
                out,
                "{name:<36} {median:>12.1} {:>26}",
                format!("{least:.1} … {greatest:.1}")
            )?;
        }
        writeln!(out, "\n{:<36} {:>8} {:>12}", "ratio", "median", "promised")?;
        for promise in PROMISES {
            let Some(ratio) = self.ratio(promise) else { continue };
            let kept = if promise.at_least {
                ratio >= promise.bound
            } else {
                ratio <= promise.bound
            };
            let sign = if promise.at_least { ">=" } else { "<=" };
            let word = if kept { "" } else { "  MISSED" };
            writeln!(
                out,
                "{:<36} {ratio:>8.2} {:>12}{word}",
                promise.what,
                format!("{sign} {}", promise.bound)
            )?;
        }
        Ok(())
    }

    fn ratio(&self, promise: &Promise) -> Option<f64> {
        let figures = self.0.get(promise.figure)?;
        // Some figures are promised as they are.
        let ones = vec![1.0; figures.len()];
        let by = if promise.by == "one" {
            &ones
        } else {
            self.0.get(promise.by)?
        };
        let mut ratios: Vec<f64> = figures.iter().zip(by).map(|(figure, by)| figure / by).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied()
    }

    /// Every figure of every round.
    pub fn json(&self) -> Value {
        json!(self.0)
    }
}

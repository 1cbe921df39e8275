//! What is kept of a run: counts and latencies by phase.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use ticketlock_client::seams::{BootClock, Clock as _};

/// Time since the run began.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Duration);

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self(BootClock.now())
    }

    /// Since then.
    pub fn now(self) -> Duration {
        BootClock.now().saturating_sub(self.0)
    }
}

/// Latencies in nanoseconds, to three digits, up to an hour.
pub type Latencies = Histogram<u64>;

/// No latencies yet.
pub fn latencies() -> Latencies {
    match Histogram::new_with_bounds(1, 3_600_000_000_000, 3) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("these bounds are valid"),
    }
}

/// Adds one.
pub fn record(latencies: &mut Latencies, took: Duration) {
    latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// One kind of operation in a run.
pub struct Phase {
    /// What.
    pub name: &'static str,
    /// How long the phase took.
    pub took: Duration,
    /// Of each operation.
    pub latencies: Latencies,
}

impl Phase {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        let count = f64::from(u32::try_from(self.latencies.len()).unwrap_or(u32::MAX));
        count / self.took.as_secs_f64().max(1e-9)
    }

    fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_quantile(quantile))
    }

    /// As a line of a table.
    pub fn row(&self) -> Vec<String> {
        let mut row = vec![
            self.name.to_owned(),
            self.latencies.len().to_string(),
            format!("{:.0}", self.rate()),
        ];
        row.extend([0.5, 0.9, 0.99, 0.999, 1.0].map(|quantile| format!("{:.1?}", self.at(quantile))));
        row
    }

    /// As an object.
    pub fn json(&self) -> Value {
        let nanos = |quantile| u64::try_from(self.at(quantile).as_nanos()).unwrap_or(u64::MAX);
        json!({
            "name": self.name,
            "count": self.latencies.len(),
            "seconds": self.took.as_secs_f64(),
            "per_second": self.rate(),
            "p50_ns": nanos(0.5),
            "p90_ns": nanos(0.9),
            "p99_ns": nanos(0.99),
            "p999_ns": nanos(0.999),
            "max_ns": nanos(1.0),
        })
    }
}

/// What a run came to.
pub struct Report {
    /// In the order in which they happened.
    pub phases: Vec<Phase>,
    /// Operations of the least and the most served worker.
    pub served: (u64, u64),
    /// Operations that failed.
    pub errors: u64,
}

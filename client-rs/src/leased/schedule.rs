//! How long to pause between tries to get a lost lock back.

use std::time::Duration;

/// 1, 10, 30 and 60 s: the last one goes on.
pub const DEFAULT_RETRY_INTERVALS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Pauses that grow with each failure in a row, and begin anew after a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    intervals: Vec<Duration>,
    failures: usize,
}

impl Default for RetrySchedule {
    /// [`DEFAULT_RETRY_INTERVALS`].
    fn default() -> Self {
        Self::new(DEFAULT_RETRY_INTERVALS)
    }
}

impl RetrySchedule {
    /// These pauses, in order; the last one goes on. None at all means a second each time.
    #[must_use]
    pub fn new(intervals: impl IntoIterator<Item = Duration>) -> Self {
        Self {
            intervals: intervals.into_iter().collect(),
            failures: 0,
        }
    }

    /// A try failed: how long to pause.
    pub fn failed(&mut self) -> Duration {
        let last = self.intervals.len().saturating_sub(1);
        let pause = self.intervals.get(self.failures.min(last));
        self.failures += 1;
        pause.copied().unwrap_or(Duration::from_secs(1))
    }

    /// A try succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses grow, the longest repeats, a success begins anew.
    #[test]
    fn pauses_grow_and_begin_anew() {
        let mut schedule = RetrySchedule::default();
        let seconds = |schedule: &mut RetrySchedule| schedule.failed().as_secs();
        let first: Vec<u64> = (0..6).map(|_| seconds(&mut schedule)).collect();
        assert_eq!(first, [1, 10, 30, 60, 60, 60]);
        schedule.succeeded();
        assert_eq!(seconds(&mut schedule), 1);
        assert_eq!(RetrySchedule::new([]).failed().as_secs(), 1);
    }
}

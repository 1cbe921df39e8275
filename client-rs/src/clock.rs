//! The only file of the client that reads a clock: everything a guard believes is counted on it.

use std::time::Duration;

use crate::seams::Clock;

/// CLOCK_BOOTTIME: unlike `Instant` it goes on while the machine sleeps, as the server's lease does.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Duration {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = rustix::time::ClockId::Boottime;
        // On macOS this clock counts suspend too.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(id);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

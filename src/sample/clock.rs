//! The host's clocks.

use rustix::time::{ClockId, clock_gettime};

use crate::model::UnixSeconds;

/// Turns start ticks into time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When the host booted.
    pub boot: UnixSeconds,
    /// Ticks in a second (`sysconf(_SC_CLK_TCK)`).
    pub ticks_per_second: u64,
}

impl Clock {
    #[allow(clippy::cast_precision_loss)] // ticks of a century fit
    /// The wall-clock time of a number of ticks since boot.
    pub fn time_of(self, ticks: u64) -> UnixSeconds {
        self.boot + ticks as f64 / self.ticks_per_second as f64
    }
}

/// Seconds on one of the kernel's clocks (clock_gettime(2)).
#[allow(clippy::cast_precision_loss)] // seconds of this era fit
pub fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The wall-clock time.
pub fn now() -> UnixSeconds {
    seconds(ClockId::Realtime)
}

/// When the host booted: the wall clock less the time since boot, suspends included.
pub fn boot_time() -> UnixSeconds {
    now() - seconds(ClockId::Boottime)
}

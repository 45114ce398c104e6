//! The host's clocks, and the spans of time by which readings are renewed.

use rustix::time::{ClockId, clock_gettime};

use crate::model::UnixSeconds;

/// A fact that hardly ever changes is read again after this time.
pub const REVIEW_SECONDS: f64 = 60.0;

/// Converts the start ticks of a process into wall-clock time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When the host booted.
    pub boot: UnixSeconds,
    /// Ticks per second (`sysconf(_SC_CLK_TCK)`).
    pub ticks_per_second: u64,
}

impl Clock {
    /// The wall-clock time of a number of ticks since boot.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // the ticks of a century fit
    pub fn time_of(self, ticks: u64) -> UnixSeconds {
        self.boot + ticks as f64 / self.ticks_per_second as f64
    }
}

/// The time of one of the kernel's clocks in seconds (clock_gettime(2)).
#[allow(clippy::cast_precision_loss)] // seconds of this era fit
#[must_use]
pub fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The wall-clock time now.
#[must_use]
pub fn now() -> UnixSeconds {
    seconds(ClockId::Realtime)
}

/// When the host booted: the wall-clock time minus the time since boot, which includes suspends.
#[must_use]
pub fn boot_time() -> UnixSeconds {
    now() - seconds(ClockId::Boottime)
}

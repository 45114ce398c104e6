//! The type of a moment, how moments are compared, and how a span of time is written.

/// A moment, in seconds since the Unix epoch.
pub type UnixSeconds = f64;

/// A process this young may still be starting: executing another program, entering namespaces, binding its
/// listeners, being handed some, or detaching.
pub const YOUNG_SECONDS: f64 = 10.0;

/// The precision with which dates of files and start times of processes can be compared. Start times
/// are counted in ticks.
const SLACK_SECONDS: f64 = 1.0;

/// Whether a file with this date was certainly written after the start of a process.
#[must_use]
pub fn is_surely_after(date: UnixSeconds, started: UnixSeconds) -> bool {
    date > started + SLACK_SECONDS
}

/// Whether a file with this date may have been written after the start of a process.
#[must_use]
pub fn may_be_after(date: UnixSeconds, started: UnixSeconds) -> bool {
    date >= started - SLACK_SECONDS
}

/// A duration in its two largest units, such as `3d 4h` or `5m 6s`; a negative one is `0s`.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an age is small and not negative
pub fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

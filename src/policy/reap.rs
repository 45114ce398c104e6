//! What `reap` may do to the stale processes of a service, and when.

use serde::{Deserialize, Serialize};

use crate::model::named::named;

named! {
    /// A signal that `reap` may send, the mildest first.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    pub enum StopSignal {
        /// SIGUSR1, the soft stop: HAProxy closes its listeners and lets its clients finish.
        Usr1 = "USR1",
        /// SIGTERM, the immediate stop: HAProxy cuts its connections.
        Term = "TERM",
        /// SIGKILL: the kernel ends the process.
        Kill = "KILL",
    }
}

impl StopSignal {
    /// The signal that follows if this one had no effect.
    #[must_use]
    pub fn next(self) -> Option<StopSignal> {
        match self {
            StopSignal::Usr1 => Some(StopSignal::Term),
            StopSignal::Term => Some(StopSignal::Kill),
            StopSignal::Kill => None,
        }
    }
}

/// The policy of `reap` for one service (`reap:` in the configuration).
#[derive(Debug, Clone, PartialEq)]
pub struct ReapPolicy {
    /// How long a superseded process may accept connections before it gets SIGUSR1. HAProxy's own
    /// `grace` is added.
    pub listening_seconds: f64,
    /// How long a process may live with neither a listener nor a connection.
    pub idle_seconds: f64,
    /// How long a process may drain before its connections are cut; `None` means for ever.
    pub draining_seconds: Option<f64>,
    /// The same for a process that has only half-closed connections on which no byte moves.
    pub half_closed_seconds: Option<f64>,
    /// The strongest signal that may be sent.
    pub last_signal: StopSignal,
    /// The time between two signals to one process, and after a failed reload.
    pub step_grace_seconds: f64,
    /// The most signals that one run sends.
    pub max_per_run: u32,
    /// The most signals that are sent within an hour.
    pub max_per_hour: u32,
    /// The largest share of the living processes of a service that may be signalled within an hour.
    pub max_share: f64,
    /// The times at which nothing is signalled.
    pub quiet: Vec<QuietTime>,
}

impl Default for ReapPolicy {
    fn default() -> Self {
        ReapPolicy {
            listening_seconds: 30.0,
            idle_seconds: 60.0,
            draining_seconds: None,
            half_closed_seconds: None,
            last_signal: StopSignal::Term,
            step_grace_seconds: 30.0,
            max_per_run: 10,
            max_per_hour: 30,
            max_share: 0.5,
            quiet: Vec::new(),
        }
    }
}

/// A minute of the week in local time, counted from Monday at 00:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinuteOfWeek(pub u16);

impl MinuteOfWeek {
    /// The minutes of one day.
    pub const DAY: u16 = 24 * 60;
    /// The minutes of one week.
    pub const WEEK: u16 = 7 * Self::DAY;

    /// The minute at this time of a day; 0 is Monday.
    #[must_use]
    pub fn at(day: u16, hour: u16, minute: u16) -> MinuteOfWeek {
        MinuteOfWeek((day * Self::DAY + hour * 60 + minute) % Self::WEEK)
    }
}

/// Hours on certain days of the week, such as `Mon-Fri 08:00-20:00`. The hours may run over midnight, and
/// then belong to the day on which they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietTime {
    /// The days; 0 is Monday.
    pub days: Vec<u16>,
    /// The first minute of the day.
    pub from: u16,
    /// The minute of the day that is no longer part of it. Not after `from`: it is one of the next day.
    pub to: u16,
    /// As it was written.
    pub written: String,
}

impl QuietTime {
    /// Whether this moment is part of it.
    #[must_use]
    pub fn contains(&self, now: MinuteOfWeek) -> bool {
        let lasts = (self.to + MinuteOfWeek::DAY - self.from - 1) % MinuteOfWeek::DAY + 1;
        self.days.iter().any(|day| {
            let begin = day * MinuteOfWeek::DAY + self.from;
            (now.0 + MinuteOfWeek::WEEK - begin) % MinuteOfWeek::WEEK < lasts
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(days: &[u16], from: u16, to: u16) -> QuietTime {
        QuietTime { days: days.to_vec(), from, to, written: String::new() }
    }

    #[test]
    fn quiet_time_may_run_over_midnight() {
        let office = quiet(&[0, 1, 2, 3, 4], 8 * 60, 20 * 60);
        let night = quiet(&[6], 22 * 60, 6 * 60);
        let whole_day = quiet(&[2], 0, 0);
        let table = [
            (&office, (0, 8, 0), true),
            (&office, (0, 7, 59), false),
            (&office, (4, 19, 59), true),
            (&office, (4, 20, 0), false),
            (&office, (5, 12, 0), false),
            (&night, (6, 21, 59), false),
            (&night, (6, 22, 0), true),
            (&night, (0, 5, 59), true),
            (&night, (0, 6, 0), false),
            (&night, (6, 5, 0), false),
            (&whole_day, (2, 0, 0), true),
            (&whole_day, (2, 23, 59), true),
            (&whole_day, (3, 0, 0), false),
        ];
        for (quiet, (day, hour, minute), expected) in table {
            let now = MinuteOfWeek::at(day, hour, minute);
            assert_eq!(quiet.contains(now), expected, "{quiet:?} {day} {hour}:{minute}");
        }
    }
}

//! The section `reap` of the configuration, and its scalar values.

use std::str::FromStr;

use serde::Deserialize;

use super::values::{Seconds, scalars};
use crate::policy::reap::{MinuteOfWeek, QuietTime, ReapPolicy, StopSignal};
use crate::yaml::Word;

/// The keys of `reap`. A key that is absent keeps the value of `defaults`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReap {
    listening: Option<Word<Seconds>>,
    idle: Option<Word<Seconds>>,
    draining: Option<Word<Patience>>,
    half_closed: Option<Word<Patience>>,
    last_signal: Option<Word<StopSignal>>,
    step_grace: Option<Word<Seconds>>,
    max_per_run: Option<u32>,
    max_per_hour: Option<u32>,
    max_share: Option<Word<Share>>,
    quiet: Option<Vec<Word<QuietTime>>>,
}

impl RawReap {
    /// Completes these keys from a policy.
    pub fn over(self, old: ReapPolicy) -> ReapPolicy {
        let seconds = |given: Option<Word<Seconds>>, old| given.map_or(old, |word| word.0.0);
        let patience = |given: Option<Word<Patience>>, old| given.map_or(old, |word| word.0.0);
        ReapPolicy {
            listening_seconds: seconds(self.listening, old.listening_seconds),
            idle_seconds: seconds(self.idle, old.idle_seconds),
            draining_seconds: patience(self.draining, old.draining_seconds),
            half_closed_seconds: patience(self.half_closed, old.half_closed_seconds),
            last_signal: self.last_signal.map_or(old.last_signal, |word| word.0),
            step_grace_seconds: seconds(self.step_grace, old.step_grace_seconds),
            max_per_run: self.max_per_run.unwrap_or(old.max_per_run),
            max_per_hour: self.max_per_hour.unwrap_or(old.max_per_hour),
            max_share: self.max_share.map_or(old.max_share, |word| word.0.0),
            quiet: self
                .quiet
                .map_or(old.quiet, |list| list.into_iter().map(|word| word.0).collect()),
        }
    }
}

scalars! {
    /// A duration, or `never`.
    #[derive(PartialEq)]
    Patience(Option<f64>) = |text| match (text, humantime::parse_duration(text)) {
        ("never", _) => Ok(None),
        (_, Ok(duration)) => Ok(Some(duration.as_secs_f64())),
        (_, Err(why)) => Err(format!(
            "invalid duration {text:?}: {why}; write it like 30m or 12h, or write never"
        )),
    };

    /// A share from 1% to 100%.
    Share(f64) = |text| match text.strip_suffix('%').and_then(|number| number.parse::<u8>().ok()) {
        Some(percent @ 1..=100) => Ok(f64::from(percent) / 100.0),
        _ => Err(format!(
            "invalid share {text:?}; write a percentage from 1% to 100%, such as 50%"
        )),
    };
}

impl FromStr for StopSignal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let signal = StopSignal::ALL.into_iter().find(|signal| signal.as_str() == text);
        signal.ok_or_else(|| format!("unknown signal {text:?}; valid signals: USR1, TERM, KILL"))
    }
}

/// The days as a policy writes them; the first is 0.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl FromStr for QuietTime {
    type Err = String;

    /// Reads `[DAY[-DAY][,DAY…] ]HH:MM-HH:MM`. Without days it is every day.
    fn from_str(text: &str) -> Result<Self, String> {
        quiet_time(text).ok_or_else(|| {
            format!(
                "invalid time {text:?}; write it like \"08:00-20:00\", \"Mon-Fri 08:00-20:00\" or \
                 \"Sat,Sun 22:00-06:00\", with days as {}",
                DAYS.join(", ")
            )
        })
    }
}

fn quiet_time(text: &str) -> Option<QuietTime> {
    let (days, hours) = match text.trim().rsplit_once(' ') {
        Some((days, hours)) => (days_of(days.trim())?, hours),
        None => ((0..7).collect(), text.trim()),
    };
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (minute_of_day(from)?, minute_of_day(to)?);
    let from = Some(from).filter(|&from| from < MinuteOfWeek::DAY)?;
    Some(QuietTime { days, from, to: to % MinuteOfWeek::DAY, written: text.trim().to_owned() })
}

fn days_of(text: &str) -> Option<Vec<u16>> {
    let day = |name: &str| {
        let place = DAYS.iter().position(|known| known.eq_ignore_ascii_case(name.trim()))?;
        u16::try_from(place).ok()
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                days.extend((0..=(last + 7 - first) % 7).map(|step| (first + step) % 7));
            }
            None => days.push(day(part)?),
        }
    }
    Some(days)
}

/// The minute of the day; 24:00 is the end of it.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2);
    let (hour, minute) = (number(hour)?, number(minute)?);
    let whole = hour * 60 + minute;
    (hour <= 24 && minute < 60 && whole <= MinuteOfWeek::DAY).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_times_have_days_and_hours() {
        type Read = (&'static [u16], u16, u16);
        let table: [(&str, Option<Read>); 14] = [
            ("08:00-20:00", Some((&[0, 1, 2, 3, 4, 5, 6], 480, 1200))),
            ("Mon-Fri 08:00-20:00", Some((&[0, 1, 2, 3, 4], 480, 1200))),
            ("sat,sun 22:00-06:00", Some((&[5, 6], 1320, 360))),
            ("Fri-Mon 00:00-24:00", Some((&[4, 5, 6, 0], 0, 0))),
            ("Mon, Wed 08:00-09:30", Some((&[0, 2], 480, 570))),
            ("8:00-20:00", None),
            ("08:00", None),
            ("24:00-06:00", None),
            ("08:60-09:00", None),
            ("Mo 08:00-09:00", None),
            ("Mon-Fri", None),
            ("", None),
            ("Mon 08:00-25:00", None),
            ("Mon 08:00-24:01", None),
        ];
        for (text, expected) in table {
            let quiet = text.parse::<QuietTime>().ok();
            let read = quiet.as_ref().map(|quiet| (quiet.days.as_slice(), quiet.from, quiet.to));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn shares_and_patience() {
        let shares = [("50%", Some(0.5)), ("100%", Some(1.0)), ("0%", None), ("0.5", None)];
        for (text, expected) in shares {
            assert_eq!(text.parse::<Share>().ok().map(|share| share.0), expected, "{text}");
        }
        assert_eq!("never".parse(), Ok(Patience(None)));
        assert_eq!("12h".parse(), Ok(Patience(Some(43_200.0))));
        assert!("soon".parse::<Patience>().is_err());
    }
}

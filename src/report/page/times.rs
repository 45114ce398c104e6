//! Moments on the page for a person.

use std::time::{Duration, UNIX_EPOCH};

use maud::{Markup, html};

use crate::report::text::age;

/// A past moment as its age at `now`, with the moment itself for machines and as a tooltip; both are
/// unix seconds.
pub fn ago(moment: f64, now: f64) -> Markup {
    let date = date(moment);
    html! { time datetime=(date) title=(date) { (age(now - moment)) } }
}

/// A past moment as its date, which a phone shows too, and its age at `now`; both are unix seconds.
pub fn date_and_age(moment: f64, now: f64) -> Markup {
    let date = date(moment);
    html! { time datetime=(date) { (date.replace('T', " ").replace('Z', " UTC")) } " (" (age(now - moment)) " ago)" }
}

/// The date in the form of RFC 3339; empty if the calendar does not reach it.
fn date(moment: f64) -> String {
    Duration::try_from_secs_f64(moment)
        .ok()
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .map(|time| humantime::format_rfc3339_seconds(time).to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_its_age_and_its_date() {
        let shown = ago(1_700_000_000.0, 1_700_000_005.0).into_string();
        assert!(shown.contains("2023-11-14T22:13:20Z") && shown.contains(">5s<"), "{shown}");
        let shown = date_and_age(1_700_000_000.0, 1_700_000_005.0).into_string();
        assert!(shown.contains(">2023-11-14 22:13:20 UTC</time> (5s ago)"), "{shown}");
        assert!(ago(5.0, 0.0).into_string().contains(">0s<"), "a clock that was set back");
    }
}

//! Text and times for the page for a person. Everything shown comes from others and is escaped.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

/// Text that stays text, in content and in attributes.
///
/// Control characters and those that turn the direction of writing are shown by their number: a
/// process may be called anything.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                other if other.is_control() || is_direction(other) => {
                    write!(formatter, "\\u{{{:x}}}", u32::from(other))?;
                }
                other => formatter.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn is_direction(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A time in the past as its age at `now`, with the moment itself for machines; both unix seconds.
pub fn ago(moment: f64, now: f64) -> String {
    let moment_text = Duration::try_from_secs_f64(moment)
        .ok()
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .map(|time| humantime::format_rfc3339_seconds(time).to_string())
        .unwrap_or_default();
    let age = age(Duration::try_from_secs_f64(now - moment).unwrap_or_default());
    format!("<time datetime=\"{moment_text}\" title=\"{moment_text}\">{age}</time>")
}

/// A duration in its two largest units.
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let table = [
            ("<a b='\"&>", "&lt;a b=&#39;&quot;&amp;&gt;"),
            ("a\u{202e}b\n\u{7}", "a\\u{202e}b\\u{a}\\u{7}"),
            ("haproxy ü", "haproxy ü"),
        ];
        for (text, expected) in table {
            assert_eq!(Escaped(text).to_string(), expected);
        }
    }

    #[test]
    fn ages_have_two_units() {
        let table = [(5, "5 s"), (61, "1 min 1 s"), (7300, "2 h 1 min"), (200_000, "2 d 7 h")];
        for (seconds, expected) in table {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
        let shown = ago(1_700_000_000.0, 1_700_000_005.0);
        assert!(shown.contains("2023-11-14T22:13:20Z") && shown.contains(">5 s<"), "{shown}");
        assert!(ago(5.0, 0.0).contains(">0 s<"));
    }
}

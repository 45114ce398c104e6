//! What `haproxy -c` and `haproxy -v` print.

use std::path::PathBuf;

use super::config::Version;

/// How serious a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// HAProxy refuses the configuration.
    Alert,
    /// HAProxy accepts the configuration, and doubts it.
    Warning,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How serious it is.
    pub level: Level,
    /// The file, as it was named to HAProxy, and the line.
    pub place: Option<(PathBuf, usize)>,
    /// Its text, without the place and without the end of the sentence.
    pub text: String,
}

/// Sentences that only say that there were other messages.
const SUMMARIES: [&str; 4] = [
    "Error(s) found in configuration file",
    "Fatal errors found in configuration",
    "Some configuration options require",
    "Warnings were found",
];

/// Reads the messages of `haproxy -c`: `[ALERT] (PID) : config : parsing [FILE:LINE] : TEXT`, with a
/// date before the pid up to 2.3. A line without a level continues the message above it.
#[must_use]
pub fn messages(output: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut continues = false;
    for line in output.lines() {
        let Some((level, rest)) = level(line) else {
            if let Some(last) = messages.last_mut().filter(|_| continues) {
                let more = line.trim().trim_start_matches('|').trim_start();
                last.text.push_str(if more.is_empty() { "" } else { " " });
                last.text.push_str(more);
            }
            continue;
        };
        let message = level.map(|level| {
            let text = rest.strip_prefix("config : ").unwrap_or(rest);
            let (place, text) = place(text);
            Message { level, place, text: text.trim().to_owned() }
        });
        let message = message.filter(|message| {
            let is_summary = SUMMARIES.iter().any(|summary| message.text.starts_with(summary));
            // Up to 3.0 a file with errors also counts as one that could not be opened.
            !is_summary && !message.text.trim_end_matches('.').ends_with(" : Success")
        });
        continues = message.is_some();
        messages.extend(message);
    }
    for message in &mut messages {
        message.text.truncate(message.text.trim_end_matches('.').len());
    }
    messages
}

/// The level of a line and what follows the pid; the level is `None` for a notice.
fn level(line: &str) -> Option<(Option<Level>, &str)> {
    let (name, rest) = line.strip_prefix('[')?.split_once(']')?;
    let level = match name {
        "ALERT" => Some(Level::Alert),
        "WARNING" => Some(Level::Warning),
        "NOTICE" | "DIAG" => None,
        _ => return None,
    };
    let (_, rest) = rest.split_once(") : ")?;
    Some((level, rest))
}

/// Separates `parsing [FILE:LINE] : ` from the text after it.
fn place(text: &str) -> (Option<(PathBuf, usize)>, &str) {
    let found = || {
        let (_, rest) = text.split_once('[')?;
        let (place, rest) = rest.split_once(']')?;
        let (file, line) = place.rsplit_once(':')?;
        Some(((PathBuf::from(file), line.parse().ok()?), rest))
    };
    match found() {
        Some((place, rest)) if text.starts_with("parsing [") || text.starts_with('[') => {
            let rest = rest.trim_start();
            (Some(place), rest.strip_prefix(':').unwrap_or(rest))
        }
        Some((place, _)) => (Some(place), text),
        None => (None, text),
    }
}

/// The version in the first line of `haproxy -v`: `HAProxy version 3.0.11-1+deb13u1 2025/06/03`, or
/// `HA-Proxy version 2.2.9` up to 2.3.
#[must_use]
pub fn version(output: &str) -> Option<Version> {
    let mut words = output.lines().next()?.split(' ');
    let name = words.next()?;
    if !matches!(name, "HAProxy" | "HA-Proxy") || words.next()? != "version" {
        return None;
    }
    Version::parse(words.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_several_versions() {
        let output = "\
[NOTICE]   (7) : haproxy version is 2.6.12-1+deb12u3
[NOTICE]   (7) : path to executable is /usr/sbin/haproxy
[WARNING]  (7) : config : parsing [/a.cfg:4] : 'bind-process' is deprecated.
[ALERT]    (7) : config : parsing [/a.cfg:9] : unknown keyword 'foo' in 'global' section; did you mean 'bar' maybe ?
[ALERT] 123/101112 (7) : parsing [/b:c.cfg:2]: 'server a' : invalid address: 'x'
  in 'x'
[WARNING]  (7) : missing timeouts for frontend 'f'.
   | While not properly invalid, set
   | 'client'.
[ALERT]    (7) : config : Proxy 'f': unable to find required use_backend: 'b'.
[ALERT]    (7) : config : [/a.cfg:12] missing.
[ALERT]    (7) : config : Error(s) found in configuration file : /a.cfg
[ALERT]    (7) : config : Fatal errors found in configuration.
nothing
";
        let shown: Vec<String> = messages(output)
            .into_iter()
            .map(|message| {
                let place = message.place.map(|(file, line)| format!("{}:{line}", file.display()));
                format!("{:?} {} {}", message.level, place.unwrap_or_default(), message.text)
            })
            .collect();
        let expected = [
            "Warning /a.cfg:4 'bind-process' is deprecated",
            "Alert /a.cfg:9 unknown keyword 'foo' in 'global' section; did you mean 'bar' maybe ?",
            "Alert /b:c.cfg:2 'server a' : invalid address: 'x' in 'x'",
            "Warning  missing timeouts for frontend 'f'. While not properly invalid, set 'client'",
            "Alert  Proxy 'f': unable to find required use_backend: 'b'",
            "Alert /a.cfg:12 missing",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn versions() {
        let table = [
            ("HAProxy version 3.0.11-1+deb13u1 2025/06/03\n", Some((3, 0))),
            ("HA-Proxy version 2.2.9-2+deb11u6 2023/09/09\n", Some((2, 2))),
            ("HAProxy version 3.5-dev5-f6818d-20 2026/11/01\n", Some((3, 5))),
            ("nginx version: nginx/1.22.1\n", None),
            ("", None),
        ];
        for (output, expected) in table {
            let branch = version(output).map(|version| {
                let (major, minor, _) = version.numbers();
                (major, minor)
            });
            assert_eq!(branch, expected, "{output}");
        }
    }
}

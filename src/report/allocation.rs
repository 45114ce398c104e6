//! The answer of `check --port` and `check --free`: which ports a new listener may be given, and what
//! speaks against the others.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::candidate::Anomaly;
use super::json::unreadable_json;
use super::text::{counted, printable, unread_line};
use crate::check::allocation::Answer;
use crate::check::finding::{Endpoint, Severity};
use crate::model::Unreadable;

/// The number of different pieces of advice that follow the ports.
const MOST_ADVICE: usize = 8;

/// The answers about ports, and how far they can be relied on.
#[derive(Debug, Clone, Default)]
pub struct Allocation {
    /// The answers, in the order of protocol and number.
    pub answers: Vec<Answer>,
    /// The label of the network namespace that was asked about; empty for the exporter's own.
    pub netns: String,
    /// What could not be read, and which right is missing. With an entry no port is known to be free.
    pub unseen: Vec<Unreadable>,
}

impl Allocation {
    /// Whether a new listener may be given the port; `None` if nothing that could be read speaks against
    /// it, but not everything could be read.
    #[must_use]
    pub fn is_free(&self, answer: &Answer) -> Option<bool> {
        match (answer.is_refused(), self.unseen.is_empty()) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    fn words(&self, answer: &Answer) -> &'static str {
        match self.is_free(answer) {
            Some(true) => "free",
            Some(false) => "not free",
            None => "not known",
        }
    }
}

/// The answer for programs, which is written as it is serialized.
#[derive(Serialize)]
struct Report<'a> {
    version: u8,
    ports: Vec<PortEntry<'a>>,
    unreadable: Vec<Value>,
}

/// The answer about one port.
#[derive(Serialize)]
struct PortEntry<'a> {
    port: u16,
    protocol: &'static str,
    address: IpAddr,
    free: Option<bool>,
    anomalies: Vec<Anomaly<'a>>,
}

/// Returns the answer for programs; the form is stable and may gain keys.
///
/// # Errors
/// Never in practice: every value of the answer can be serialized.
pub fn json(allocation: &Allocation) -> serde_json::Result<String> {
    let ports = allocation.answers.iter().map(|answer| {
        let findings = answer.findings.iter();
        PortEntry {
            port: answer.port,
            protocol: answer.protocol.as_str(),
            address: answer.address,
            free: allocation.is_free(answer),
            anomalies: findings.map(|f| Anomaly::of(f, &allocation.netns)).collect(),
        }
    });
    let unreadable = allocation.unseen.iter().map(unreadable_json);
    let report = Report { version: 1, ports: ports.collect(), unreadable: unreadable.collect() };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

/// Returns the answer for a person: one line for consecutive ports with the same answer, then each
/// piece of advice once.
#[must_use]
pub fn text(allocation: &Allocation) -> String {
    let mut text = String::new();
    for (first, last) in runs(&allocation.answers) {
        let Answer { protocol, address, .. } = *first;
        let endpoint = Endpoint {
            protocol,
            address,
            ports: first.port..=last.port,
            interface: None,
            namespace: None,
        };
        let _ = write!(text, "{endpoint}: {}", allocation.words(first));
        for (index, finding) in first.findings.iter().enumerate() {
            let mark = if index == 0 { ": " } else { "; " };
            let warning = if finding.severity == Severity::Warning { "warning: " } else { "" };
            let _ = write!(text, "{mark}{warning}{}", printable(&finding.what));
        }
        text.push('\n');
    }
    advice(&mut text, &allocation.answers);
    for entry in &allocation.unseen {
        let _ = writeln!(text, "{}", unread_line(entry));
    }
    text
}

/// The answers that one line shows: the first and the last of consecutive ports with the same headings.
fn runs(answers: &[Answer]) -> Vec<(&Answer, &Answer)> {
    let mut runs: Vec<(&Answer, &Answer)> = Vec::new();
    for answer in answers {
        match runs.last_mut() {
            Some((first, last)) if continues(last, answer) && says_the_same(first, answer) => {
                *last = answer;
            }
            _ => runs.push((answer, answer)),
        }
    }
    runs
}

fn continues(last: &Answer, next: &Answer) -> bool {
    last.protocol == next.protocol && last.port.checked_add(1) == Some(next.port)
}

fn says_the_same(one: &Answer, other: &Answer) -> bool {
    let headings = one.findings.iter().map(|finding| (finding.severity, &finding.what));
    headings.eq(other.findings.iter().map(|finding| (finding.severity, &finding.what)))
}

fn advice(text: &mut String, answers: &[Answer]) {
    let mut known: Vec<&str> = Vec::new();
    let mut more = std::collections::BTreeSet::new();
    for help in answers.iter().flat_map(|answer| &answer.findings).flat_map(|f| &f.help) {
        if known.contains(&help.as_str()) {
            continue;
        }
        if known.len() < MOST_ADVICE {
            known.push(help);
        } else {
            more.insert(help);
        }
    }
    for help in known {
        let _ = writeln!(text, "help: {}", printable(help));
    }
    if !more.is_empty() {
        let count = counted(more.len(), "more piece of advice", "more pieces of advice");
        let _ = writeln!(text, "{count} with --output json");
    }
}

/// Returns port numbers as `check --free` prints them: one a line.
#[must_use]
pub fn numbers(ports: &[u16]) -> String {
    let mut text = String::new();
    for port in ports {
        let _ = writeln!(text, "{port}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Finding, Kind};
    use crate::model::{Protocol, What};

    fn answer(port: u16, findings: &[(Severity, &str)]) -> Answer {
        let findings = findings.iter().map(|(severity, what)| Finding {
            help: vec!["choose another port".to_owned()],
            ..Finding::of_file(Kind::PortBlocked, *severity, what)
        });
        Answer {
            protocol: Protocol::Tcp,
            address: "0.0.0.0".parse().unwrap(),
            port,
            findings: findings.collect(),
        }
    }

    fn allocation() -> Allocation {
        let held = [(Severity::Error, "held by haproxy l\u{7}b (pid 3)")];
        let answers = vec![
            answer(80, &[]),
            answer(81, &[]),
            answer(82, &held),
            answer(83, &held),
            answer(85, &held),
            answer(86, &[(Severity::Warning, "in the ephemeral range"), held[0]]),
        ];
        Allocation { answers, ..Allocation::default() }
    }

    #[test]
    fn consecutive_ports_with_the_same_answer_are_one_line() {
        let expected = "\
tcp 0.0.0.0:80-81: free
tcp 0.0.0.0:82-83: not free: held by haproxy l\\u{7}b (pid 3)
tcp 0.0.0.0:85: not free: held by haproxy l\\u{7}b (pid 3)
tcp 0.0.0.0:86: not free: warning: in the ephemeral range; held by haproxy l\\u{7}b (pid 3)
help: choose another port
";
        assert_eq!(text(&allocation()), expected);
    }

    #[test]
    fn what_could_not_be_read_leaves_it_open_whether_a_port_is_free() {
        let entry = Unreadable {
            what: What::Sockets,
            subject: "own network namespace".to_owned(),
            reason: "permission denied".to_owned(),
        };
        let allocation = Allocation { unseen: vec![entry], ..allocation() };
        let report: Value = serde_json::from_str(&json(&allocation).unwrap()).unwrap();
        let free = |port: usize| report["ports"][port]["free"].clone();
        assert_eq!((free(0), free(2)), (Value::Null, Value::Bool(false)));
        let said = text(&allocation);
        assert!(said.starts_with("tcp 0.0.0.0:80-81: not known\n"), "{said}");
        let last = "could not read sockets of own network namespace: permission denied\n";
        assert!(said.ends_with(last), "{said}");
    }

    #[test]
    fn numbers_are_printed_one_a_line() {
        assert_eq!(numbers(&[80, 82]), "80\n82\n");
    }
}

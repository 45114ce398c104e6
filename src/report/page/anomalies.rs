//! The anomalies of a service on the page for a person. Those that differ only in their port share an
//! article.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::endpoints::{Run, runs};
use super::times::ago;
use crate::judge::verdict::Anomaly;
use crate::report::text::{more, printable};

/// The number of ports that the title of an anomaly names before it counts the rest.
const MAX_NAMED_RUNS: usize = 8;
/// The number of lines of advice, which differ only in the port, that an anomaly shows before it
/// counts the rest.
const MAX_ADVICE: usize = 3;

/// Renders the anomalies of a service.
pub fn anomalies(anomalies: &[Anomaly], now: f64) -> Markup {
    let mut groups: BTreeMap<_, Vec<&Anomaly>> = BTreeMap::new();
    for anomaly in anomalies {
        let Anomaly { kind, pending, evidence, subject, .. } = anomaly;
        let alike = (pending, kind.severity(), kind, &subject.holder, evidence);
        groups.entry(alike).or_default().push(anomaly);
    }
    html! {
        h3 { "Anomalies" }
        @if groups.is_empty() { p { "None." } }
        @for ((pending, severity, kind, holder, evidence), group) in &groups {
            article class=(severity.as_str()) {
                h4 {
                    span.severity { (severity.as_str()) }
                    " " (kind.as_str()) (subject(group, holder))
                }
                p {
                    @if **pending { "pending, seen for " } @else { "for " }
                    (ago(group.iter().map(|anomaly| anomaly.since).fold(now, f64::min), now))
                }
                ul {
                    @for fact in *evidence { li { (printable(fact)) } }
                }
                (advice(group))
            }
        }
    }
}

fn advice(group: &[&Anomaly]) -> Markup {
    let advice: BTreeSet<_> = group.iter().map(|anomaly| anomaly.advice.as_str()).collect();
    html! {
        @for line in advice.iter().take(MAX_ADVICE) {
            p { b { "Do:" } " " (printable(line)) }
        }
        @if let Some(more) = more(advice.len(), MAX_ADVICE, "like it") {
            p { (more) }
        }
    }
}

fn subject(group: &[&Anomaly], holder: &str) -> String {
    let ports = group.iter().filter_map(|anomaly| anomaly.subject.port.as_ref());
    let runs = runs(ports.map(|key| (key, ())));
    let named: Vec<_> = runs.iter().take(MAX_NAMED_RUNS).map(Run::to_string).collect();
    let mut text = String::new();
    if !named.is_empty() {
        text = format!(": {}", named.join(", "));
    }
    if let Some(more) = more(runs.len(), MAX_NAMED_RUNS, "") {
        text = format!("{text} {more}");
    }
    if !holder.is_empty() {
        text = format!("{text}, held by {}", printable(holder));
    }
    text
}

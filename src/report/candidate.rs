//! The result of `check` for one configuration, its JSON and its summary.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use super::changes;
use super::json::unreadable_json;
use super::text::{counted, printable};
use crate::check::changes::Changes;
use crate::check::{Finding, Kind, Severity};
use crate::haproxy::config::{Declared, HostName, HostQuery, Place, SourceFile, Version};
use crate::model::Unreadable;

/// One judged configuration.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    /// The service whose policy and ports counted; `None` for the defaults.
    pub service: Option<String>,
    /// Its files.
    pub files: Vec<SourceFile>,
    /// What the files declare.
    pub declared: Declared,
    /// What its host names stand for, where they were looked up.
    pub resolved: BTreeMap<HostQuery, Result<IpAddr, String>>,
    /// What its reload would change; `None` if no service runs it, or HAProxy would refuse it.
    pub changes: Option<Changes>,
    /// The HAProxy that was asked; `None` if none was wanted.
    pub asked: Option<Asked>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// What could not be read, and which right is missing.
    pub unseen: Vec<Unreadable>,
    /// The label of the network namespace it would bind in; empty for the exporter's own.
    pub netns: String,
}

/// A HAProxy that was asked about a configuration, or why none was.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Its executable.
    pub path: PathBuf,
    /// Its version.
    pub version: Option<Version>,
    /// Whether it accepts the configuration; `None` if it gave no answer.
    pub accepted: Option<bool>,
    /// Why no HAProxy was asked.
    pub left_out: Option<String>,
}

impl Candidate {
    /// Counts the findings that forbid a reload.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Each host name that is used in place of an address, with the address that it resolved to.
    pub fn resolved(&self) -> impl Iterator<Item = (&HostName, IpAddr)> {
        let names = self.declared.host_names.iter();
        names.filter_map(|name| Some((name, *self.resolved.get(&name.query)?.as_ref().ok()?)))
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether too little could be read to conclude that nothing is wrong.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        !self.unseen.is_empty() || self.findings.iter().any(|finding| finding.unseen)
    }
}

/// Returns the answer of `check --output json`; the form is stable and may gain keys.
#[must_use]
pub fn json(candidates: &[Candidate]) -> Value {
    let each = |of: fn(&Candidate) -> Vec<Value>| {
        candidates.iter().flat_map(|candidate| named(candidate, of(candidate))).collect::<Vec<_>>()
    };
    json!({
        "version": 1,
        "listeners": each(listeners),
        "anomalies": each(anomalies),
        "uncertain": each(uncertain),
        "resolved": each(resolved),
        "changes": each(|candidate| candidate.changes.iter().map(changes::json).collect()),
        "binaries": each(|candidate| candidate.asked.iter().map(binary).collect()),
        "unreadable": each(|candidate| candidate.unseen.iter().map(unreadable_json).collect()),
    })
}

fn binary(asked: &Asked) -> Value {
    json!({
        "path": asked.path.to_string_lossy(),
        "version": asked.version.map(|version| version.to_string()),
        "accepted": asked.accepted,
        "left_out": asked.left_out,
    })
}

/// Adds the name of the service to each entry, if there is one.
fn named(candidate: &Candidate, mut entries: Vec<Value>) -> Vec<Value> {
    if let Some(name) = &candidate.service {
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.insert("haproxy".to_owned(), json!(name));
        }
    }
    entries
}

fn file(place: &Place) -> String {
    place.file.to_string_lossy().into_owned()
}

fn listeners(candidate: &Candidate) -> Vec<Value> {
    let entries = candidate.declared.endpoints().map(|(listener, port)| {
        json!({
            "protocol": listener.protocol.as_str(),
            "address": listener.address.to_string(),
            "port": port,
            "interface": listener.interface.as_deref().unwrap_or_default(),
            "netns": listener.namespace.as_deref().unwrap_or(&candidate.netns),
            "file": file(&listener.place),
            "line": listener.place.line,
            "section": &*listener.section,
        })
    });
    entries.collect()
}

fn anomalies(candidate: &Candidate) -> Vec<Value> {
    let certain = candidate.findings.iter().filter(|finding| finding.kind != Kind::Uncertain);
    certain.map(|finding| json!(Anomaly::of(finding, &candidate.netns))).collect()
}

/// One finding as programs read it. A check of 10,000 ports may have as many, so that it borrows.
#[derive(Serialize)]
pub(super) struct Anomaly<'a> {
    kind: &'static str,
    severity: &'static str,
    file: Option<Cow<'a, str>>,
    line: Option<usize>,
    column: Option<usize>,
    protocol: Option<&'static str>,
    address: Option<IpAddr>,
    port: Option<u16>,
    last_port: Option<u16>,
    interface: Option<&'a str>,
    netns: Option<&'a str>,
    holder: &'a str,
    what: &'a str,
    evidence: &'a [String],
    advice: String,
}

impl<'a> Anomaly<'a> {
    /// `netns` is the label of the network namespace of binds that name none.
    pub(super) fn of(finding: &'a Finding, netns: &'a str) -> Anomaly<'a> {
        let endpoint = finding.endpoint.as_ref();
        let place = finding.place.as_ref();
        Anomaly {
            kind: finding.kind.as_str(),
            severity: finding.severity.as_str(),
            file: place.map(|place| place.file.to_string_lossy()),
            line: place.map(|place| place.line),
            column: place.map(|place| place.columns.start),
            protocol: endpoint.map(|e| e.protocol.as_str()),
            address: endpoint.map(|e| e.address),
            port: endpoint.map(|e| *e.ports.start()),
            last_port: endpoint.map(|e| *e.ports.end()),
            interface: endpoint.map(|e| e.interface.as_deref().unwrap_or_default()),
            netns: endpoint.map(|e| e.namespace.as_deref().unwrap_or(netns)),
            holder: &finding.holder,
            what: &finding.what,
            evidence: &finding.why,
            advice: finding.help.join("; "),
        }
    }
}

fn uncertain(candidate: &Candidate) -> Vec<Value> {
    let lines = candidate.declared.uncertain.iter();
    lines
        .map(|line| json!({"file": file(&line.place), "line": line.place.line, "why": line.why}))
        .collect()
}

fn resolved(candidate: &Candidate) -> Vec<Value> {
    let names = candidate.resolved();
    names
        .map(|(name, address)| {
            json!({
                "name": name.query.name,
                "address": address.to_string(),
                "file": file(&name.place),
                "line": name.place.line,
            })
        })
        .collect()
}

/// Returns one line that sums a candidate up.
#[must_use]
pub fn summary(candidate: &Candidate) -> String {
    let count = |number: usize, noun: &str| counted(number, noun, &format!("{noun}s"));
    let name = candidate.service.as_deref().map(|name| format!("{}: ", printable(name)));
    let verdict = match (candidate.errors(), candidate.count(Severity::Warning)) {
        (0, 0) => "nothing wrong".to_owned(),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    format!(
        "{}{} in {}: {verdict}{}",
        name.unwrap_or_default(),
        count(candidate.declared.endpoints().count(), "port"),
        count(candidate.files.len(), "file"),
        if candidate.is_blind() { "; not everything could be read" } else { "" },
    )
}

//! The rules: one function a kind, and the precedence between them.

pub mod configs;
pub mod explain;
pub mod port_blocked;
pub mod ports;
pub mod processes;

use super::case::{PortSockets, Scene};
use super::reload_count;
use super::rules::port_blocked::Owners;
use super::verdict::{Kind, PortKey, Subject};
use crate::model::UnixSeconds;
use crate::policy::Ignore;
use std::collections::BTreeSet;

/// Something a rule found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// Its labels.
    pub subject: Subject,
    /// Tells findings with equal labels apart: a process's identity.
    pub instance: String,
    /// Since when, where that can be proved; else it counts from when it was first seen.
    pub since: Option<UnixSeconds>,
    /// How long it must hold; `stale_grace` when absent.
    pub grace_seconds: Option<f64>,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do first.
    pub advice: String,
}

/// What a rule says of one haproxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// What it found.
    pub findings: Vec<Finding>,
    /// It saw all it has to see, so finding nothing means there is nothing.
    pub complete: bool,
}

impl Judgement {
    /// A judgement of all there is.
    #[must_use]
    pub fn of(findings: Vec<Finding>) -> Judgement {
        Judgement { findings, complete: true }
    }

    /// What was found is so; what was not may be.
    #[must_use]
    pub fn if_known(complete: bool, findings: Vec<Finding>) -> Judgement {
        Judgement { findings, complete }
    }
}

/// What the rules look at.
#[derive(Debug)]
pub struct Case<'a> {
    /// The haproxy.
    pub scene: &'a Scene<'a>,
    /// What its processes listen on.
    pub ports: &'a [PortSockets<'a>],
    /// Name of every other haproxy that shares a port with one, and what it listens on.
    pub others: &'a [(&'a str, &'a [PortSockets<'a>])],
    /// Ports whose accept queue dropped connections since the last sample.
    pub dropping: &'a BTreeSet<PortKey>,
    /// Whose the sockets on ports in question are.
    pub owners: &'a Owners<'a>,
}

/// Judges a haproxy by every rule; answers findings, and the kinds that could be judged.
#[must_use]
pub fn judge(case: &Case<'_>) -> (Vec<(Kind, Finding)>, BTreeSet<Kind>) {
    let raced = reload_count::reload_raced(case);
    let split = ports::port_split(case);
    // One cause, one kind: what the first two explain is their evidence.
    let racing = reload_count::racing(case.scene);
    let blocked = configs::port_blocked(case);
    let ports_of = |judgement: &Judgement| {
        judgement.findings.iter().filter_map(|f| f.subject.port.clone()).collect::<BTreeSet<_>>()
    };
    let explained = &ports_of(&split) | &ports_of(&blocked);
    let split = Judgement {
        findings: split.findings.into_iter().filter(|f| !is_of(f, &racing)).collect(),
        ..split
    };
    let rows = [
        (Kind::PortOutOfRange, ports::port_out_of_range(case)),
        (Kind::PortUndeclared, configs::port_undeclared(case)),
        (Kind::PortMissing, configs::port_missing(case, &blocked)),
        (Kind::PortStaleListener, ports::port_stale_listener(case, &racing, &explained)),
        (Kind::PortSplit, split),
        (Kind::PortBlocked, blocked),
        (Kind::PortEphemeral, ports::port_ephemeral(case)),
        (Kind::PortBacklog, ports::port_backlog(case)),
        (Kind::ProcessIdle, processes::process_idle(case)),
        (Kind::ProcessZombie, processes::process_zombie(case)),
        (Kind::ProcessOrphan, processes::process_orphan(case)),
        (Kind::ReloadFailed, reload_count::reload_failed(case)),
        (Kind::ReloadRaced, raced),
        (Kind::PidfileMismatch, processes::pidfile_mismatch(case)),
        (Kind::ConfigNotLoaded, configs::config_not_loaded(case)),
        (Kind::BinaryOutdated, processes::binary_outdated(case)),
    ];
    sift(rows, &case.scene.rules.ignore)
}

/// Findings without those the operator accepts, and the kinds that could be judged.
#[must_use]
pub fn sift(
    rows: impl IntoIterator<Item = (Kind, Judgement)>,
    ignore: &[Ignore],
) -> (Vec<(Kind, Finding)>, BTreeSet<Kind>) {
    let mut findings = Vec::new();
    let mut judged = BTreeSet::new();
    for (kind, judgement) in rows {
        if judgement.complete || !judgement.findings.is_empty() {
            judged.insert(kind);
        }
        let kept = judgement
            .findings
            .into_iter()
            .filter(|finding| !ignore.iter().any(|ignore| accepts(ignore, kind, finding)));
        findings.extend(kept.map(|finding| (kind, finding)));
    }
    (findings, judged)
}

/// A split whose stale side is one of the racing processes.
fn is_of(finding: &Finding, racing: &BTreeSet<crate::model::ProcessId>) -> bool {
    racing.iter().any(|id| finding.instance == processes::instance(*id))
}

fn accepts(ignore: &Ignore, kind: Kind, finding: &Finding) -> bool {
    let port = finding.subject.port.as_ref();
    ignore.kind.is_none_or(|ignored| ignored == kind)
        && ignore.port.is_none_or(|number| port.is_some_and(|port| port.port == number))
        && ignore.address.is_none_or(|address| port.is_some_and(|port| port.address == address))
}

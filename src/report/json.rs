//! The verdict for programs: `inspect --output json` and `/state.json`.

use serde_json::{Value, json};

use super::ranges::{PortRanges, port_ranges};
use crate::judge::verdict::{
    Anomaly, Cause, Port, ProcessView, ServiceVerdict, StaleState, Verdict,
};
use crate::model::{Unreadable, numbers};
use crate::policy::Ignore;
use crate::policy::kind::Kind;

/// Returns the verdict as JSON; the form is stable and may gain keys.
#[must_use]
pub fn inspect_json(verdict: &Verdict) -> Value {
    json!({
        "version": 1,
        "taken_timestamp": verdict.taken,
        "haproxys": verdict.services.iter().map(service_json).collect::<Vec<_>>(),
        "unreadable": verdict.unreadable.iter().map(unreadable_json).collect::<Vec<_>>(),
        "expired_ignores": verdict.expired_ignores.iter().map(ignore_json).collect::<Vec<_>>(),
    })
}

fn ignore_json(ignore: &Ignore) -> Value {
    json!({
        "haproxy": ignore.haproxy,
        "kind": ignore.kind.map(Kind::as_str),
        "port": ignore.port,
        "address": ignore.address.map(|address| address.to_string()),
        "reason": ignore.reason,
        "until_timestamp": ignore.until.as_ref().map(|until| until.end),
    })
}

fn service_json(service: &ServiceVerdict) -> Value {
    let shown = service.identity.shown();
    json!({
        "name": service.name,
        "origin": service.origin.as_str(),
        "up": service.up,
        "mode": service.identity.mode,
        "config": shown.config,
        "pidfile": shown.pidfile,
        "version": shown.version,
        "processes": service.processes.iter().map(process_json).collect::<Vec<_>>(),
        "ports": service.ports.iter().map(port_json).collect::<Vec<_>>(),
        "anomalies": service.anomalies.iter().map(anomaly_json).collect::<Vec<_>>(),
        "causes": service.causes.iter().map(cause_json).collect::<Vec<_>>(),
    })
}

fn cause_json(cause: &Cause) -> Value {
    let ports = port_ranges(&cause.ports);
    json!({
        "id": cause.id,
        "kind": cause.kind.as_str(),
        "kinds": cause.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
        "severity": cause.severity.as_str(),
        "pending": cause.pending,
        "since_timestamp": cause.since,
        "subject": cause.subject,
        "ports": ports.iter().map(ranges_json).collect::<Vec<_>>(),
        "anomalies": cause.anomalies,
        "effect": cause.effect(),
        "evidence": cause.evidence,
        "advice": cause.advice,
    })
}

fn ranges_json(ports: &PortRanges<'_>) -> Value {
    json!({
        "protocol": ports.first.protocol.as_str(),
        "address": ports.first.address.to_string(),
        "interface": &*ports.first.interface,
        "netns": &*ports.first.netns,
        "ranges": ports.ranges.iter().map(numbers::run).collect::<Vec<_>>(),
    })
}

fn process_json(process: &ProcessView) -> Value {
    let connections = process.connections.map(|connections| {
        let named = connections.named().into_iter();
        named
            .map(|(state, count)| (state.to_owned(), json!(count)))
            .collect::<serde_json::Map<_, _>>()
    });
    json!({
        "pid": process.id.pid,
        "role": process.role.as_str(),
        "generation": process.generation.as_str(),
        "state": process.state.map(StaleState::as_str),
        "start_timestamp": process.started,
        "superseded_timestamp": process.superseded.map(|how| how.since),
        "superseded": process.superseded.map(|how| {
            json!({"by": how.by.pid, "proof": how.proof.as_str(), "timestamp": how.since})
        }),
        "connections": connections,
    })
}

fn port_json(port: &Port) -> Value {
    json!({
        "protocol": port.key.protocol.as_str(),
        "address": port.key.address.to_string(),
        "port": port.key.port,
        "interface": &*port.key.interface,
        "netns": &*port.key.netns,
        "generation": port.generation.as_str(),
        "pids": port.pids,
    })
}

fn anomaly_json(anomaly: &Anomaly) -> Value {
    let port = anomaly.subject.port.as_ref();
    json!({
        "kind": anomaly.kind.as_str(),
        "severity": anomaly.kind.severity().as_str(),
        "pending": anomaly.pending,
        "protocol": port.map(|port| port.protocol.as_str()),
        "address": port.map(|port| port.address.to_string()),
        "port": port.map(|port| port.port),
        "interface": port.map(|port| &*port.interface),
        "netns": port.map(|port| &*port.netns),
        "holder": anomaly.subject.holder,
        "since_timestamp": anomaly.since,
        "evidence": anomaly.evidence,
        "advice": anomaly.advice,
    })
}

fn unreadable_json(entry: &Unreadable) -> Value {
    json!({"what": entry.what.as_str(), "subject": entry.subject, "reason": entry.reason})
}

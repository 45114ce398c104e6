//! The verdict for programs: `inspect --output json`, and `/state.json`, where the services of users
//! other than root give way.

use serde_json::{Value, json};

use super::ranges::{PortRanges, port_ranges};
use crate::judge::account::by_precedence;
use crate::judge::verdict::{
    Anomaly, Cause, Port, ProcessView, ServiceVerdict, StaleState, Verdict,
};
use crate::model::{Unreadable, numbers};
use crate::policy::Ignore;
use crate::policy::kind::Kind;
use crate::reap::audit::connections;

/// Returns the verdict as JSON; the form is stable and may gain keys.
#[must_use]
pub fn inspect_json(verdict: &Verdict) -> Value {
    let services = verdict.services.iter().map(|service| (service, usize::MAX));
    whole(verdict, services, usize::MAX)
}

/// The same for the page that anyone may request again and again. Services that are configured or that root
/// started are shown in full. All others together have at most `most` entries: services, processes, ports,
/// anomalies and causes, beginning with each user's first service. The rest is counted.
#[must_use]
pub fn state_json(verdict: &Verdict, most: usize) -> Value {
    let (trusted, others) = by_precedence(&verdict.services);
    let mut shown: Vec<(&ServiceVerdict, usize)> =
        trusted.into_iter().map(|service| (service, usize::MAX)).collect();
    let mut left = most;
    for service in others {
        // One service leaves something to the others.
        let room = left.min(most / LARGEST_SHARE);
        if room > 0 {
            left -= Shown::of(service, room).entries();
            shown.push((service, room));
        }
    }
    shown.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    whole(verdict, shown.into_iter(), most)
}

/// One service of another user has at most this part of what all of them have.
const LARGEST_SHARE: usize = 8;

fn whole<'v>(
    verdict: &Verdict,
    services: impl Iterator<Item = (&'v ServiceVerdict, usize)>,
    most: usize,
) -> Value {
    let haproxys: Vec<Value> =
        services.map(|(service, room)| service_json(service, Shown::of(service, room))).collect();
    let services_left_out = verdict.services.len().saturating_sub(haproxys.len());
    let unreadable_left_out = verdict.unreadable.len().saturating_sub(most);
    json!({
        "version": 1,
        "taken_timestamp": verdict.taken,
        "left_out": {"haproxys": services_left_out, "unreadable": unreadable_left_out},
        "haproxys": haproxys,
        "unreadable": verdict.unreadable.iter().take(most).map(unreadable_json).collect::<Vec<_>>(),
        "expired_ignores": verdict.expired_ignores.iter().map(ignore_json).collect::<Vec<_>>(),
    })
}

/// How much of a service is shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    processes: usize,
    ports: usize,
    causes: usize,
    anomalies: usize,
}

impl Shown {
    /// As much as there is room for, beside the service itself.
    fn of(service: &ServiceVerdict, room: usize) -> Shown {
        let mut left = room.saturating_sub(1);
        let mut take = |count: usize| {
            let taken = count.min(left);
            left -= taken;
            taken
        };
        Shown {
            processes: take(service.processes.len()),
            causes: take(service.causes.len()),
            ports: take(service.ports.len()),
            anomalies: take(service.anomalies.len()),
        }
    }

    /// How much of the room that is.
    fn entries(self) -> usize {
        1 + self.processes + self.ports + self.causes + self.anomalies
    }
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

fn service_json(service: &ServiceVerdict, most: Shown) -> Value {
    let shown = service.identity.shown();
    let ServiceVerdict { processes, ports, anomalies, causes, .. } = service;
    json!({
        "name": service.name,
        "origin": service.origin.as_str(),
        "up": service.up,
        "mode": service.identity.mode,
        "config": shown.config,
        "pidfile": shown.pidfile,
        "version": shown.version,
        "processes": processes.iter().take(most.processes).map(process_json).collect::<Vec<_>>(),
        "ports": ports.iter().take(most.ports).map(port_json).collect::<Vec<_>>(),
        "anomalies": anomalies.iter().take(most.anomalies).map(anomaly_json).collect::<Vec<_>>(),
        "causes": causes
            .iter()
            .take(most.causes)
            .map(|cause| cause_json(cause, most.anomalies))
            .collect::<Vec<_>>(),
        "left_out": {
            "processes": processes.len() - most.processes,
            "ports": ports.len() - most.ports,
            "anomalies": anomalies.len() - most.anomalies,
            "causes": causes.len() - most.causes,
        },
    })
}

/// `shown` is the number of the service's anomalies that are shown; a cause refers to them by their places.
fn cause_json(cause: &Cause, shown: usize) -> Value {
    let ports = port_ranges(&cause.ports);
    let anomalies: Vec<&usize> = cause.anomalies.iter().filter(|place| **place < shown).collect();
    json!({
        "id": cause.id,
        "kind": cause.kind.as_str(),
        "kinds": cause.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
        "severity": cause.severity.as_str(),
        "pending": cause.pending,
        "since_timestamp": cause.since,
        "subject": cause.subject,
        "ports": ports.iter().map(ranges_json).collect::<Vec<_>>(),
        "anomalies": anomalies,
        "effect": cause.kind.effect(),
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
        "connections": connections(process.connections.as_ref()),
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

pub(super) fn unreadable_json(entry: &Unreadable) -> Value {
    json!({"what": entry.what.as_str(), "subject": entry.subject, "reason": entry.reason})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Actor, Film, actor};

    fn service(number: u16, user: u32, ports: u16) -> Actor {
        let line = format!("haproxy -D -f /{number:03}.cfg -p /run/{number:03}");
        let first = 10_000 + number * 20;
        (first..first + ports)
            .fold(actor(100 + i32::from(number), 100, &line).of_user(user), |actor, port| {
                actor.tcp(port, u64::from(port))
            })
    }

    #[test]
    fn the_services_of_users_give_way_and_are_counted() {
        let mut actors = vec![service(0, 0, 20), service(1, 1000, 20)];
        actors.extend((2..200).map(|number| service(number, 65_534, 20)));
        let verdict = Film::default().settle(1000.0, &actors);
        let state = state_json(&verdict, 400);
        let all = inspect_json(&verdict);
        let of = |state: &Value, name: &str| {
            let services = state["haproxys"].as_array().unwrap();
            services.iter().find(|service| service["name"] == name).cloned()
        };
        assert_eq!(of(&state, "000"), of(&all, "000"), "root's is whole");
        assert_eq!(of(&state, "001@1000"), of(&all, "001@1000"), "so is the first of each user");
        let shown = state["haproxys"].as_array().unwrap();
        let entries: usize = shown
            .iter()
            .filter(|service| service["name"] != "000")
            .flat_map(|service| {
                ["processes", "ports", "anomalies", "causes"]
                    .map(|key| service[key].as_array().unwrap().len())
            })
            .sum();
        assert!(entries <= 400 && entries > 300, "{entries}");
        assert_eq!(state["left_out"]["haproxys"], 200 - shown.len());
        assert_eq!(all["left_out"], json!({"haproxys": 0, "unreadable": 0}));
        let names: Vec<&str> =
            shown.iter().filter_map(|service| service["name"].as_str()).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn one_service_of_a_user_leaves_something_to_the_others() {
        let actors: Vec<Actor> = (0..9).map(|number| service(number, 65_534, 20)).collect();
        let verdict = Film::default().settle(1000.0, &actors);
        let state = state_json(&verdict, 80);
        let first = &state["haproxys"][0];
        assert_eq!(first["processes"].as_array().unwrap().len(), 1);
        let ports = first["ports"].as_array().unwrap().len();
        assert_eq!(first["left_out"]["ports"], 20 - ports);
        assert!((1..10).contains(&ports), "{ports}");
        assert_eq!(state["haproxys"].as_array().unwrap().len(), 8);
    }
}

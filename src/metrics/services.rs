//! The series of one service.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{self as row, Row};
use super::families::{Families, count, number};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::judge::verdict::{
    ConnectionCounts, Port, PortKey, ProcessView, ServiceVerdict, StaleState,
};
use crate::model::Protocol;

/// The combinations of role and generation that can exist. Each has a series, even at 0.
const PARTS: [(Role, Generation); 7] = [
    (Role::Master, Generation::Current),
    (Role::Worker, Generation::Current),
    (Role::Worker, Generation::Stale),
    (Role::Worker, Generation::Starting),
    (Role::Daemon, Generation::Current),
    (Role::Daemon, Generation::Stale),
    (Role::Daemon, Generation::Starting),
];

/// Adds the series that a service has independent of its ports.
pub fn add(page: &mut Families, service: &ServiceVerdict) {
    add_state(page, service);
    add_processes(page, service);
    add_stale(page, service);
    add_reloads(page, service);
    add_resources(page, service);
    add_configuration(page, service);
    add_port_counts(page, service);
    add_anomaly_counts(page, service);
}

/// Adds the series of its ports and anomalies, at most `limit` of each metric.
pub fn add_listed(page: &mut Families, service: &ServiceVerdict, limit: usize) {
    add_ports(page, service, limit);
    add_anomalies(page, service, limit);
}

fn add_state(page: &mut Families, service: &ServiceVerdict) {
    let name = service.name.as_str();
    let shown = service.identity.shown();
    let [unit, config, pidfile, version] =
        [&shown.unit, &shown.config, &shown.pidfile, &shown.version]
            .map(|text| text.as_deref().unwrap_or_default());
    page.add(&row::INFO, &[name, shown.mode, unit, config, pidfile, version], 1.0);
    page.add_known(&row::UP, &[name, service.origin.as_str()], service.up.map(f64::from));
    page.add_known(&row::GENERATIONS, &[name], service.generations.map(number));
    page.add_known(&row::GENERATION_START, &[name], service.generation_start);
    for (threshold, value) in service.thresholds.named() {
        page.add(&row::THRESHOLD, &[name, threshold], value);
    }
    for (protocol, &ports) in &service.allowed_ports {
        page.add(&row::ALLOWED_PORTS, &[name, protocol.as_str()], number(ports));
    }
}

fn add_processes(page: &mut Families, service: &ServiceVerdict) {
    let mut counts: BTreeMap<(Role, Generation), u64> = BTreeMap::new();
    // Where the generations are known, one without processes is counted as 0.
    if service.generations.is_some() {
        counts.extend(PARTS.map(|part| (part, 0)));
    }
    for process in &service.processes {
        *counts.entry((process.role, process.generation)).or_default() += 1;
    }
    for ((role, generation), processes) in counts {
        let labels = [service.name.as_str(), role.as_str(), generation.as_str()];
        page.add(&row::PROCESSES, &labels, number(processes));
    }
}

fn add_stale(page: &mut Families, service: &ServiceVerdict) {
    let name = service.name.as_str();
    let stale = || service.processes.iter().filter(|p| p.generation == Generation::Stale);
    page.add_known(
        &row::STALE_OLDEST_TIMESTAMP,
        &[name],
        stale().filter_map(|process| Some(process.superseded?.since)).reduce(f64::min),
    );
    if service.generations.is_none() {
        return;
    }
    for state in StaleState::ALL {
        let processes = stale().filter(|process| process.state == Some(state)).count();
        page.add(&row::STALE_PROCESSES, &[name, state.as_str()], count(processes));
    }
    let mut total = ConnectionCounts::default();
    for process in stale() {
        let Some(connections) = &process.connections else { return };
        total.add(connections);
    }
    for (state, connections) in total.named() {
        page.add(&row::STALE_CONNECTIONS, &[name, state], number(connections));
    }
}

fn add_reloads(page: &mut Families, service: &ServiceVerdict) {
    let name = service.name.as_str();
    let reloads = &service.reloads;
    page.add(&row::RELOADS, &[name, "success"], number(reloads.successes));
    if reloads.failures_known {
        page.add(&row::RELOADS, &[name, "failure"], number(reloads.failures));
    }
    let successful = reloads.last_successful.map(f64::from);
    page.add_known(&row::LAST_RELOAD_SUCCESSFUL, &[name], successful);
    page.add_known(&row::LAST_RELOAD_TIMESTAMP, &[name], reloads.last_timestamp);
}

fn add_resources(page: &mut Families, service: &ServiceVerdict) {
    let name = service.name.as_str();
    page.add_known(&row::MEMORY_AVAILABLE, &[name], service.headroom.memory_bytes.map(number));
    page.add_known(&row::PIDS_AVAILABLE, &[name], service.headroom.pids.map(number));
    for generation in Generation::ALL {
        let living = |process: &&ProcessView| {
            process.generation == generation && process.state != Some(StaleState::Zombie)
        };
        let processes: Vec<_> = service.processes.iter().filter(living).collect();
        if processes.is_empty()
            && (service.generations.is_none() || generation == Generation::Unknown)
        {
            continue;
        }
        let labels = [name, generation.as_str()];
        let memory: Option<u64> = processes.iter().map(|p| p.anonymous_memory_bytes).sum();
        page.add_known(&row::RESIDENT_MEMORY, &labels, memory.map(number));
        let fds = processes.iter().filter_map(|p| Some((p.open_fds?, p.max_fds?)));
        let left = |&(open, limit): &(u64, u64)| limit.saturating_sub(open);
        if let Some((open, limit)) = fds.min_by_key(left) {
            page.add(&row::OPEN_FDS, &labels, number(open));
            page.add(&row::MAX_FDS, &labels, number(limit));
        }
    }
}

fn add_port_counts(page: &mut Families, service: &ServiceVerdict) {
    let name = service.name.as_str();
    for &protocol in &service.protocols_known {
        for generation in [Generation::Current, Generation::Stale, Generation::Starting] {
            let bound = service
                .ports
                .iter()
                .filter(|port| port.key.protocol == protocol && port.generation == generation);
            let labels = [name, protocol.as_str(), generation.as_str()];
            page.add(&row::BOUND_PORTS, &labels, count(bound.count()));
        }
    }
}

fn add_ports(page: &mut Families, service: &ServiceVerdict, limit: usize) {
    let name = service.name.as_str();
    let anomalous: BTreeSet<&PortKey> =
        service.firing().filter_map(|anomaly| anomaly.subject.port.as_ref()).collect();
    // Ports with an anomaly come first, so that the cap does not hide them; then all by number.
    let (mut ports, sound): (Vec<_>, Vec<_>) =
        service.ports.iter().partition(|port| anomalous.contains(&port.key));
    ports.extend(sound);
    let shown = capped(page, &row::PORT_INFO, &ports, limit);
    let info: Vec<(u64, f64)> =
        shown.iter().map(|port| (page.identity((name, &port.key, port.generation)), 1.0)).collect();
    page.add_identified(&row::PORT_INFO, info, |place| {
        let port = shown.get(place);
        let generation = port.map(|port| port.generation.as_str().to_owned());
        let labels = port.map(|port| labels_of(name, &port.key)).unwrap_or_default();
        labels.into_iter().chain(generation).collect()
    });
    add_queues(page, name, &fullest_queues(&ports), limit);
}

/// The value that a metric takes from a queue.
type Value<'a> = fn(&Queue<'a>) -> Option<f64>;

fn add_queues(page: &mut Families, name: &str, queues: &[Queue<'_>], limit: usize) {
    let identified: Vec<(u64, &Queue<'_>)> =
        queues.iter().map(|queue| (page.identity((name, queue.key)), queue)).collect();
    let metrics: [(&'static Row, Value<'_>); 3] = [
        (&row::LISTEN_QUEUE_LENGTH, |queue| queue.length.map(f64::from)),
        (&row::LISTEN_QUEUE_LIMIT, |queue| queue.limit.map(f64::from)),
        (&row::LISTEN_DROPS, |queue| queue.drops.map(number)),
    ];
    for (metric, value) in metrics {
        let shown = capped(page, metric, &identified, limit).iter();
        let known: Vec<(u64, f64, &PortKey)> = shown
            .filter_map(|(identity, queue)| Some((*identity, value(queue)?, queue.key)))
            .collect();
        let samples = known.iter().map(|&(identity, value, _)| (identity, value));
        let labels = |place: usize| known.get(place).map(|(.., key)| labels_of(name, key));
        page.add_identified(metric, samples, |place| labels(place).unwrap_or_default());
    }
}

/// The fullest accept queue of a port.
struct Queue<'a> {
    key: &'a PortKey,
    length: Option<u32>,
    limit: Option<u32>,
    drops: Option<u64>,
}

/// Returns the fullest queue of each TCP port over all generations, in the order of `ports`.
fn fullest_queues<'a>(ports: &[&'a Port]) -> Vec<Queue<'a>> {
    let mut queues: Vec<Queue<'a>> = Vec::new();
    for port in ports.iter().filter(|port| port.key.protocol == Protocol::Tcp) {
        let (length, limit) = (port.queue_length, port.queue_limit);
        match queues.last_mut().filter(|queue| *queue.key == port.key) {
            Some(queue) if length > queue.length => (queue.length, queue.limit) = (length, limit),
            Some(_) => {}
            None => queues.push(Queue { key: &port.key, length, limit, drops: port.drops }),
        }
    }
    queues
}

fn add_configuration(page: &mut Families, service: &ServiceVerdict) {
    let name = service.name.as_str();
    let Some(configuration) = &service.configuration else { return };
    page.add(&row::CONFIG_MTIME, &[name], configuration.modified);
    page.add_known(&row::CONFIG_HASH, &[name], configuration.digest.map(number));
    if configuration.complete {
        for protocol in Protocol::ALL {
            let declared = configuration.ports.count(protocol);
            page.add(&row::DECLARED_PORTS, &[name, protocol.as_str()], count(declared));
        }
    }
}

fn add_anomaly_counts(page: &mut Families, service: &ServiceVerdict) {
    let name = service.name.as_str();
    for &kind in &service.judged {
        let firing = service.firing().filter(|anomaly| anomaly.kind == kind).count();
        page.add(&row::ANOMALIES, &[name, kind.as_str()], count(firing));
        let observed = service.observed.get(&kind).copied().unwrap_or(0);
        page.add(&row::ANOMALIES_OBSERVED, &[name, kind.as_str()], number(observed));
    }
}

fn add_anomalies(page: &mut Families, service: &ServiceVerdict, limit: usize) {
    let name = service.name.as_str();
    // Anomalies with equal labels are one series, with the start of the oldest.
    let mut distinct: BTreeMap<_, f64> = BTreeMap::new();
    for anomaly in service.firing() {
        let since = distinct.entry((anomaly.kind, &anomaly.subject)).or_insert(anomaly.since);
        *since = since.min(anomaly.since);
    }
    let distinct: Vec<_> = distinct.into_iter().collect();
    for metric in [&row::ANOMALY_INFO, &row::ANOMALY_START] {
        for ((kind, subject), since) in capped(page, metric, &distinct, limit) {
            let port = subject.port.as_ref();
            let [protocol, address, number, interface, netns] =
                &port.map(port_labels).unwrap_or_default();
            let labels =
                [name, kind.as_str(), protocol, address, number, interface, netns, &subject.holder];
            let value = if metric.name == row::ANOMALY_INFO.name { 1.0 } else { *since };
            page.add(metric, &labels, value);
        }
    }
}

/// Returns the first `limit` items and counts the others as dropped.
fn capped<'a, T>(page: &mut Families, row: &'static Row, items: &'a [T], limit: usize) -> &'a [T] {
    page.drop_series(row, items.len().saturating_sub(limit));
    items.get(..limit).unwrap_or(items)
}

/// The labels of a service's port.
fn labels_of(service: &str, key: &PortKey) -> Vec<String> {
    std::iter::once(service.to_owned()).chain(port_labels(key)).collect()
}

fn port_labels(key: &PortKey) -> [String; 5] {
    [
        key.protocol.as_str().to_owned(),
        key.address.to_string(),
        key.port.to_string(),
        key.interface.to_string(),
        key.netns.to_string(),
    ]
}

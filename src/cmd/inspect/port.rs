//! Finds the sockets that use a port number in every network namespace, and their holders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::judge::verdict::{ProcessView, ServiceVerdict, Verdict};
use crate::model::{
    NamespaceId, NetworkNamespace, PortUse, Process, ProcessId, Protocol, Snapshot, SocketInode,
};
use crate::policy::{Refusal, Rules};
use crate::report::port::{Expectation, HeldUse, Holder, PortNetwork, PortReport};
use crate::sample::on_demand::programs::{self, Holders};
use crate::watch::Watcher;

/// Reports every use of `port`.
pub fn report(
    procfs: &Path,
    watcher: &mut Watcher,
    snapshot: &Snapshot,
    verdict: &Verdict,
    port: u16,
) -> PortReport {
    let mut report = PortReport { port, ..PortReport::default() };
    let mut seen: Vec<(NamespaceId, Vec<PortUse>)> = Vec::new();
    for (id, outcome) in watcher.sampler().port_uses(port) {
        match outcome {
            Ok(uses) => seen.push((id, uses)),
            Err(error) => report.unseen.push(format!("the sockets of namespace {}: {error}", id.0)),
        }
    }
    let inodes: BTreeSet<SocketInode> =
        seen.iter().flat_map(|(_, uses)| uses.iter().filter_map(|used| used.inode)).collect();
    let holders = programs::holders(procfs, &inodes);
    let members: BTreeMap<ProcessId, (&str, &ProcessView)> = verdict
        .services
        .iter()
        .flat_map(|h| {
            h.processes.iter().map(move |process| (process.id, (h.name.as_str(), process)))
        })
        .collect();
    let named = |pid: i32| members.iter().find(|(id, _)| id.pid == pid).map(|(_, found)| *found);
    let found = inodes.iter().all(|inode| holders.programs.contains_key(inode));
    if holders.unseen > 0 && !found {
        report.unseen.push(format!(
            "the descriptors of {} processes: needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
            holders.unseen
        ));
    }
    for (id, uses) in seen {
        let nothing = NetworkNamespace::default();
        let network = snapshot.networks.get(&id).unwrap_or(&nothing);
        let mut held: Vec<HeldUse> =
            uses.into_iter().map(|socket| held(socket, network, &holders, &named)).collect();
        held.sort_by_key(|used| (rank(&used.socket), used.socket.address, used.socket.remote));
        report.networks.push(PortNetwork {
            label: network.label.clone(),
            ephemeral: network.ephemeral.clone(),
            reserved: network.reserved.clone(),
            uses: held,
        });
    }
    report.networks.sort_by(|a, b| a.label.cmp(&b.label));
    let services = verdict.services.iter();
    let expectations = services
        .map(|service| expectation(service, snapshot, watcher.policy().rules(&service.name), port));
    report.expectations = expectations.collect();
    report
}

/// Whether a service declares the number, and whether its rules allow it.
fn expectation(
    service: &ServiceVerdict,
    snapshot: &Snapshot,
    rules: &Rules,
    port: u16,
) -> Expectation {
    let ids: BTreeSet<ProcessId> = service.processes.iter().map(|process| process.id).collect();
    let members = snapshot.processes.iter().filter(|process| ids.contains(&process.id));
    let (declared, declared_known) = declared(members, port);
    let both = Protocol::ALL.into_iter();
    let refusals: Option<Vec<Refusal<'_>>> =
        both.map(|protocol| rules.refusal_of_number(protocol, port)).collect();
    let reserved_for = refusals.iter().flatten().find_map(|refusal| match refusal {
        Refusal::Reserved { name, .. } => Some((*name).to_owned()),
        Refusal::NotAllowed => None,
    });
    Expectation {
        service: service.name.clone(),
        declared,
        declared_known,
        allowed: refusals.is_none(),
        reserved_for,
    }
}

/// The order of the report: listeners, other sockets that block a bind, then connections.
fn rank(socket: &PortUse) -> u8 {
    use crate::model::PortRole::{Bound, Connected, Listening, Peerless, TimeWait};
    match socket.role {
        Listening => 0,
        Peerless => 1,
        Bound => 2,
        Connected(_) => 3,
        TimeWait => 4,
    }
}

fn held<'a>(
    socket: PortUse,
    network: &NetworkNamespace,
    holders: &Holders,
    named: &impl Fn(i32) -> Option<(&'a str, &'a ProcessView)>,
) -> HeldUse {
    let programs = socket.inode.and_then(|inode| holders.programs.get(&inode));
    let holders = programs.into_iter().flatten().map(|program| {
        let member = named(program.pid);
        Holder {
            pid: program.pid,
            program: program.name.clone(),
            service: member.map(|(name, _)| name.to_owned()),
            generation: member.map(|(_, process)| process.generation),
            state: member.and_then(|(_, process)| process.state),
        }
    });
    let peer_listens = socket.remote.is_some_and(|(address, port)| {
        network.bound.iter().flatten().any(|bound| {
            bound.protocol == socket.protocol
                && bound.port == port
                && (bound.address == address || bound.address.is_unspecified())
                // The address belongs to this host, so both ends are here.
                && (address.is_loopback() || address == socket.address || bound.address == address)
        })
    });
    HeldUse { holders: holders.collect(), peer_listens, socket }
}

/// Returns the places that declare the number, and whether all such places are known.
fn declared<'a>(members: impl Iterator<Item = &'a Process>, port: u16) -> (Vec<String>, bool) {
    let mut places = BTreeSet::new();
    let mut known = false;
    for configuration in members.filter_map(|process| process.configuration.as_ref()) {
        let declared = &configuration.declared;
        let uncertain = declared
            .uncertain
            .iter()
            .flat_map(|line| &line.may_bind)
            .any(|possible| possible.ports.is_none_or(|ports| ports.contains(port)));
        known |= configuration.complete && !uncertain;
        for listener in declared.listeners.iter().filter(|l| l.ports.contains(port)) {
            let place = &listener.place;
            places.insert(format!(
                "{}:{} ({} {})",
                place.file.display(),
                place.line,
                listener.section,
                listener.protocol
            ));
        }
    }
    (places.into_iter().collect(), known)
}

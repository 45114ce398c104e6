//! Finds out whether a port that was given back can be bound: by the kernel's rule, and where that leaves a
//! doubt by a trial.

use crate::haproxy::binding::{Answer, Bind, Reuse};
use crate::judge::verdict::PortKey;
use crate::model::{NamespaceId, PortUse, Protocol, Snapshot};
use crate::report::reap::Bindable;
use crate::sample::on_demand::bind_trial::{self, Location, TrialBind};
use crate::watch::Watcher;

/// Whether HAProxy, started by `starter`, could bind a port now.
pub fn bindable(
    watcher: &mut Watcher,
    snapshot: &Snapshot,
    port: &PortKey,
    starter: Option<u32>,
) -> Bindable {
    let is_there = |id: NamespaceId| {
        snapshot.networks.get(&id).is_some_and(|network| network.label == *port.netns)
    };
    let uses = watcher.sampler().port_uses(port.port).into_iter().find(|(id, _)| is_there(*id));
    let Some((network, Ok(uses))) = uses else { return Bindable::Unknown };
    let v6only = watcher.sampler().v6only(network);
    match by_rule(&uses, port, starter, v6only) {
        Answer::Free => Bindable::Yes,
        Answer::Blocked => Bindable::No,
        Answer::Unsure if snapshot.own_network == Some(network) => by_trial(port, starter, v6only),
        Answer::Unsure => Bindable::Unknown,
    }
}

/// What the kernel's rule says about the sockets that use the port.
fn by_rule(uses: &[PortUse], port: &PortKey, starter: Option<u32>, v6only: bool) -> Answer {
    let bind = Bind {
        protocol: port.protocol,
        address: port.address,
        port: port.port,
        interface: Some(&*port.interface).filter(|interface| !interface.is_empty()),
        v6only,
        reuse_port: true,
        uid: starter,
    };
    let answers = uses.iter().filter(|used| used.protocol == port.protocol);
    let answers = answers.map(|used| bind.answer(used, Reuse::of(used, false, None)));
    answers.fold(Answer::Free, |all, answer| match (all, answer) {
        (Answer::Blocked, _) | (_, Answer::Blocked) => Answer::Blocked,
        (Answer::Unsure, _) | (_, Answer::Unsure) => Answer::Unsure,
        _ => Answer::Free,
    })
}

/// A trial tells what HAProxy would get only where both are one user, and of TCP only: a UDP socket would
/// take datagrams.
fn by_trial(port: &PortKey, starter: Option<u32>, v6only: bool) -> Bindable {
    let own = rustix::process::geteuid().as_raw();
    if starter != Some(own) || port.protocol == Protocol::Udp || !port.interface.is_empty() {
        return Bindable::Unknown;
    }
    let trial = TrialBind { address: port.address, port: port.port, v6only, reuse_port: true };
    match bind_trial::try_binds(&Location::Own, &[trial]).as_deref() {
        Ok([Some(true)]) => Bindable::Yes,
        Ok([Some(false)]) => Bindable::No,
        _ => Bindable::Unknown,
    }
}

//! Describes the sockets that have a port number which is meant for a new listener.

use super::binds::Encounter;
use super::finding::{Finding, Kind, Severity};
use super::obstacles::{self, Obstacle};
use crate::model::PortRole;

/// What the sockets on one port mean. Each process is named once, and of the connections only the
/// first: a thousand connections from one port are one reason.
pub(super) fn holders(met: &[Encounter<'_>]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let is_connection = |met: &&Encounter<'_>| {
        matches!(met.used.socket.role, PortRole::Connected(_) | PortRole::TimeWait)
    };
    for finding in met.iter().filter(|met| !is_connection(met)).filter_map(held) {
        if !findings.iter().any(|known| known.what == finding.what) {
            findings.push(finding);
        }
    }
    let mut connections = met.iter().filter(is_connection).filter_map(held);
    if let Some(mut first) = connections.next() {
        match connections.count() {
            0 => {}
            1 => first.why.push("1 more connection holds the port".to_owned()),
            more => first.why.push(format!("{more} more connections hold the port")),
        }
        findings.push(first);
    }
    findings
}

/// What one socket means. A listener, a UDP socket or a bound socket has the number whether or not the
/// kernel would let a second socket join it; a connection has it where the bind would fail or might
/// fail.
fn held(met: &Encounter<'_>) -> Option<Finding> {
    let Encounter { used, obstacle, network, .. } = met;
    let role = used.socket.role;
    let has_it = matches!(role, PortRole::Listening | PortRole::Peerless | PortRole::Bound);
    let (verb, why) = match obstacle {
        Obstacle::Certain(why) => ("held", Some((*why).to_owned())),
        Obstacle::Doubtful(why) if has_it => ("held", Some((*why).to_owned())),
        Obstacle::Doubtful(why) => ("may be held", Some((*why).to_owned())),
        Obstacle::Shared | Obstacle::None if has_it => ("held", None),
        Obstacle::Shared | Obstacle::None => return None,
    };
    let what = format!("{verb} by {}", obstacles::holder(used));
    Some(Finding {
        why: why.into_iter().chain([obstacles::describe(&used.socket)]).collect(),
        help: obstacles::help(used, network),
        holder: obstacles::holder_label(used),
        ..Finding::of_file(Kind::PortBlocked, Severity::Error, &what)
    })
}

//! Evidence and advice that several rules give, in words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::input::RuleInput;
use crate::haproxy::advice;
use crate::haproxy::binding::Ephemeral;
use crate::haproxy::holder_label::STALE_HOLDER;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::{Member, Role};
use crate::haproxy::places::{Endpoint, Places};
use crate::judge::case::{Case, PortSockets};
use crate::judge::finding::{Finding, instance};
use crate::judge::owners::Owner;
use crate::judge::verdict::{PortKey, Subject, Target};
use crate::model::declared::Listener;
use crate::model::{Configuration, Signals};

/// The maximum number of pids that a list names.
const MOST_NAMED: usize = 100;

/// The facts that explain why a stale process has not exited.
#[must_use]
pub fn why_it_lives(case: &Case<'_>, member: &Member<'_>) -> Vec<String> {
    let mut facts = signals(member);
    let by_its_master = member.role == Role::Worker;
    let replacement = case.living(Generation::Current).find(|m| m.role == Role::Daemon);
    if let Some(replacement) = replacement.filter(|_| !by_its_master) {
        facts.push(replacement_list(case, member, replacement));
    }
    facts
}

/// Whether the serving daemon was told to replace the process (`-sf`), and if not, why.
fn replacement_list(case: &Case<'_>, member: &Member<'_>, replacement: &Member<'_>) -> String {
    let (old, new) = (member.id().pid, replacement.id().pid);
    let names_none_alive = |pids: &[i32]| {
        let living = case.service.members.iter().filter(|member| member.lives());
        let living: BTreeSet<i32> = living.map(|member| member.process.own_pid()).collect();
        !pids.iter().any(|pid| living.contains(pid))
    };
    match replacement.replaces() {
        _ if replacement.was_told_to_replace(member.process) => {
            format!("pid {new} was started with -sf {old}, so it was told to stop and has not")
        }
        None => format!("pid {new}, which serves now, was started without -sf"),
        Some([]) => {
            format!("pid {new} was started with a bare -sf: the pidfile was empty or missing then")
        }
        Some(named) if names_none_alive(named) => format!(
            "pid {new} was started with -sf {}, which is dead: the chain is broken, and {old} was never signalled",
            list(named)
        ),
        Some(named) => {
            format!("pid {new} was started with -sf {}, which does not name {old}", list(named))
        }
    }
}

/// The signals that do not reach a process, and the states in which none does.
#[must_use]
pub fn signals(member: &Member<'_>) -> Vec<String> {
    let mut facts = Vec::new();
    match member.process.run_state {
        'T' | 't' => {
            facts.push("it is stopped (state T): signals wait until it continues".to_owned());
        }
        'D' => facts.push("it is in uninterruptible sleep (state D)".to_owned()),
        _ => {}
    }
    if let Some(signals) = member.process.signals {
        if signals.blocked & Signals::SIGUSR1 != 0 {
            facts.push("it blocks SIGUSR1, the soft stop".to_owned());
        }
        if signals.pending & Signals::SIGUSR1 != 0 {
            facts.push("SIGUSR1 is pending: it was sent and has not been handled".to_owned());
        }
    }
    facts
}

/// The command that ends a process with the least harm.
#[must_use]
pub fn how_to_end(member: &Member<'_>) -> String {
    let pid = member.id().pid;
    let blocked = member.process.signals.is_some_and(|s| s.blocked & Signals::SIGUSR1 != 0);
    match member.process.run_state {
        'T' | 't' => format!("kill -CONT {pid}, then kill -USR1 {pid}"),
        _ if blocked => {
            format!(
                "kill -TERM {pid}: it cannot take the soft stop, and its connections will be cut"
            )
        }
        _ => advice::soft_stop(pid),
    }
}

/// What frees a port for `service`: its own stale process closes its listeners when it is asked to.
pub fn how_to_free(owner: Option<&Owner<'_>>, service: &str, key: &PortKey) -> String {
    match owner.filter(|owner| owner.service == service && owner.generation == Generation::Stale) {
        Some(stale) => {
            format!("kill -USR1 {}: it is stale; then start or reload", stale.process.pid)
        }
        None => format!(
            "stop or move its holder ({}), then start or reload",
            advice::list_holders(&key.netns, key.port)
        ),
    }
}

/// What ends the connection that has a port as its source port, and keeps the next one from getting that port.
pub fn how_to_end_connection(
    key: &PortKey,
    remote: (IpAddr, u16),
    ephemeral: Ephemeral<'_>,
) -> String {
    format!(
        "wait until that connection ends, or end it: {}; so that it does not happen again: {}",
        advice::end_connection(&key.netns, key.port, remote),
        ephemeral.reserve_command(&key.netns, [key.port]),
    )
}

/// The pids of a `-sf`, of which a user can give thousands.
#[must_use]
pub fn list(pids: &[i32]) -> String {
    let named = pids.iter().take(MOST_NAMED).map(i32::to_string);
    let more = pids.len().saturating_sub(MOST_NAMED);
    let more = (more > 0).then(|| format!("and {more} more"));
    named.chain(more).collect::<Vec<_>>().join(" ")
}

/// `pid 7`, `pids 7, 8`.
pub fn pids<'a>(ports: impl IntoIterator<Item = &'a PortSockets<'a>>) -> String {
    let pids: BTreeSet<i32> = ports.into_iter().map(|port| port.holder.pid).collect();
    let list = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    format!("{} {list}", if pids.len() == 1 { "pid" } else { "pids" })
}

/// A finding about a listener of a stale process, which is a unix socket if it has no port. HAProxy's own
/// `grace` prolongs the time for which the process may keep it.
pub fn stale_listener(
    case: &Case<'_>,
    member: &Member<'_>,
    port: Option<PortKey>,
    evidence: Vec<String>,
) -> Finding {
    let id = member.id();
    let own_grace = case.own_grace_seconds(member);
    Finding {
        subject: Subject { port, holder: STALE_HOLDER.to_owned() },
        target: Target::Process(id),
        instance: instance(id),
        since: case.generations.superseded.get(&id).map(|how| how.since),
        grace_seconds: own_grace.map(|own| own + case.rules.stale_grace_seconds),
        evidence,
        advice: how_to_end(member),
    }
}

pub fn parent_name(input: &RuleInput<'_>, parent: i32) -> String {
    let snapshot = input.case.snapshot;
    let own = || snapshot.processes.iter().find(|p| p.id.pid == parent).map(|p| p.comm.clone());
    match snapshot.parents.get(&parent).cloned().or_else(own) {
        Some(name) => name,
        None if parent == 0 => "outside the pid namespace".to_owned(),
        None => "unknown".to_owned(),
    }
}

/// The listeners that declare a port.
pub fn declaring<'c>(
    configuration: &'c Configuration,
    places: &'c Places,
    endpoint: &'c Endpoint,
) -> impl Iterator<Item = &'c Listener> {
    configuration.declared.listeners.iter().filter(|listener| {
        listener.protocol == endpoint.protocol
            && listener.address == endpoint.address
            && listener.ports.contains(endpoint.port)
            && places.network(listener.namespace.as_deref()) == Some(endpoint.network)
    })
}

/// The place in the files where a port is declared.
pub fn declared_at(
    configuration: &Configuration,
    places: &Places,
    endpoint: &Endpoint,
) -> Option<String> {
    let listener = declaring(configuration, places, endpoint).next()?;
    let place = &listener.place;
    Some(format!("declared at {}:{} ({})", place.file.display(), place.line, listener.section))
}

#[cfg(test)]
mod tests {
    use super::{MOST_NAMED, list};

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!((list(&[]).as_str(), list(&[7, 8]).as_str()), ("", "7 8"));
        let pids: Vec<i32> = (1..=20_000).collect();
        assert!(!list(&pids[..MOST_NAMED]).contains("more"));
        let cut = list(&pids);
        assert!(cut.len() < 1000 && cut.ends_with("100 and 19900 more"), "{cut}");
    }
}

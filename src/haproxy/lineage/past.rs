//! What is remembered of a process from one sample to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::generations::{Generation, Generations};
use super::member::{Member, Role, YOUNG_SECONDS};
use crate::haproxy::listeners::Holding;
use crate::model::{NamespaceId, ProcessId, SocketInode, UnixSeconds};

/// What earlier samples learned of one process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// The name of the haproxy it belonged to; `None` while it was none of any.
    pub haproxy: Option<String>,
    /// Its pid as its own pid namespace has it.
    pub own_pid: i32,
    /// That namespace.
    pub pid_namespace: Option<NamespaceId>,
    /// Its role, where it was beyond doubt: seen as a parent or child of another HAProxy.
    pub role: Option<Role>,
    /// When it was first seen dead and not reaped.
    pub zombie_since: Option<UnixSeconds>,
    /// Fingerprint of the configuration on disk when it was born, if that was watched.
    pub born_with: Option<u64>,
    /// HAProxy's own `grace`, from the configuration it was seen serving with.
    pub own_grace_seconds: Option<f64>,
    /// It has been watched since its birth.
    pub from_birth: bool,
    /// Since when it has held a listener.
    pub held_since: Option<UnixSeconds>,
    /// When it was last seen holding one.
    pub last_held: Option<UnixSeconds>,
    /// The listeners it held then.
    pub listeners: Arc<BTreeSet<SocketInode>>,
    /// It has been current at some time.
    pub has_served: bool,
    /// Since when a later process has served in its stead.
    pub superseded: Option<UnixSeconds>,
}

/// Every process that lived in the last sample.
pub type Pasts = BTreeMap<ProcessId, Past>;

/// What to remember of a process for the next sample. `haproxy`: what it was found to belong to.
#[must_use]
pub fn remember(
    member: &Member<'_>,
    haproxy: Option<&str>,
    holding: Option<&Holding<'_>>,
    generations: &Generations,
    past: Option<&Past>,
    now: UnixSeconds,
) -> Past {
    let id = member.id();
    let age = now - member.process.started;
    let configuration = member.process.configuration.as_deref();
    let holds = holding.and_then(Holding::serves) == Some(true);
    let earlier = past.and_then(|past| past.held_since);
    let first_seen_old = past.is_none() && age >= YOUNG_SECONDS;
    let begun = if first_seen_old { member.process.started } else { now };
    Past {
        haproxy: haproxy.map(str::to_owned).or_else(|| past.and_then(|p| p.haproxy.clone())),
        own_pid: member.process.own_pid(),
        pid_namespace: member.process.pid_namespace,
        role: if member.role_is_certain { Some(member.role) } else { past.and_then(|p| p.role) },
        born_with: match past {
            Some(past) => past.born_with,
            // Edited before anybody looked, it is not what the process has read.
            None if age < YOUNG_SECONDS => configuration
                .filter(|c| !c.is_newer_than(member.process.started))
                .map(|c| c.fingerprint),
            None => None,
        },
        own_grace_seconds: match configuration {
            Some(configuration) if generations.get(id) == Generation::Current => {
                configuration.declared.globals.grace.map(|grace| grace.as_secs_f64())
            }
            _ => past.and_then(|past| past.own_grace_seconds),
        },
        zombie_since: past
            .and_then(|past| past.zombie_since)
            .or_else(|| member.process.is_zombie().then_some(now)),
        from_birth: past.map_or(age < YOUNG_SECONDS, |past| past.from_birth),
        held_since: earlier.or(holds.then_some(begun)),
        last_held: if holds { Some(now) } else { past.and_then(|past| past.last_held) },
        listeners: listeners(holding, past),
        has_served: past.is_some_and(|past| past.has_served)
            || (holds && generations.get(id) == Generation::Current),
        superseded: generations.superseded.get(&id).copied(),
    }
}

/// What it holds now or, while it holds nothing, what it held.
fn listeners(holding: Option<&Holding<'_>>, past: Option<&Past>) -> Arc<BTreeSet<SocketInode>> {
    let held = || {
        let listeners = holding.iter().flat_map(|holding| &holding.listeners);
        listeners.map(|held| held.socket.inode)
    };
    match past {
        Some(past) if held().next().is_none() || held().eq(past.listeners.iter().copied()) => {
            Arc::clone(&past.listeners)
        }
        _ => Arc::new(held().collect()),
    }
}
